"""One thin function per system call or kernel interface.

May use: `base`.
Start with `abi`, which all calls go through, then `mount` or `namespace`.
"""
