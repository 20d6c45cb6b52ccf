"""What replaces the library's package `encodings` when the launcher starts the interpreter.

The interpreter imports `encodings` before anything else, for the one codec that it needs itself: UTF-8. The library's
package is three files with the names of all codecs there are, a tenth of the whole start. This one has UTF-8; at the
first question for another codec, or for anything else that the library's has, that one is executed instead.

`gosudacon.launcher.archive` compiles this file, with its own values instead of the two constants, to a module
called ``encodings`` in the first directory of ``sys.path``. Only what is built into the interpreter is imported here.
"""

import sys
from _codecs import utf_8_decode, utf_8_encode
from codecs import (
    BufferedIncrementalDecoder,
    CodecInfo,
    IncrementalEncoder,
    StreamReader,
    StreamWriter,
    register,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# The directory of the library's package: submodules are found there.
LIBRARY = ""
# What the interpreter is to run.
LOADER = ""

# To the import system this is a package, though it is a single file: that is found faster.
__package__ = "encodings"
__path__ = __spec__.submodule_search_locations = [LIBRARY]
# Otherwise the interpreter reads the loader to find out whether it is a ZIP archive.
sys.path_importer_cache[LOADER] = None


class _Encoder(IncrementalEncoder):
    def encode(self, text: str, final: bool = False) -> bytes:
        return utf_8_encode(text, self.errors)[0]


class _Decoder(BufferedIncrementalDecoder):
    @staticmethod
    def _buffer_decode(data: "ReadableBuffer", errors: str, final: bool) -> "tuple[str, int]":
        return utf_8_decode(data, errors, final)


class _Writer(StreamWriter):
    @staticmethod
    def encode(text: str, errors: str = "strict") -> "tuple[bytes, int]":
        return utf_8_encode(text, errors)


class _Reader(StreamReader):
    @staticmethod
    def decode(data: bytes, errors: str = "strict") -> "tuple[str, int]":
        return utf_8_decode(data, errors)


def _decode(data: "ReadableBuffer", errors: str = "strict") -> "tuple[str, int]":
    return utf_8_decode(data, errors, True)


_utf_8 = CodecInfo(utf_8_encode, _decode, _Reader, _Writer, _Encoder, _Decoder, "utf-8")
_complete = False


def _search(name: str) -> "CodecInfo | None":
    if name in ("utf-8", "utf_8"):
        return _utf_8
    return globals()["search_function"](name) if _bring() else None


def _bring() -> bool:
    """Execute the library's package in this module; False if that has been done, or if it is out of reach."""
    global _complete
    # By the finders of `sys.meta_path`: behind the wall (`gosudacon.pipeline.executor`) it is empty.
    for finder in () if _complete else sys.meta_path:
        spec = finder.find_spec("encodings", [LIBRARY.rpartition("/")[0]])
        if spec is not None:
            _complete = True
            exec(spec.loader.get_code("encodings"), globals())  # type: ignore[union-attr]
            return True
    return False


def __getattr__(name: str) -> object:
    """What this module lacks, from the library's. Raises AttributeError."""
    if not name.startswith("__") and _bring():
        return globals()[name]
    raise AttributeError(f"module 'encodings' has no attribute {name!r}")


register(_search)
