"""The containerd shim: containers of one pod, supervised by one process that answers containerd's Task service.

May use: `container` and all below it.
Start with `shim`, then `service` and `task`; how a shim is started is in `start` and `template`.
"""
