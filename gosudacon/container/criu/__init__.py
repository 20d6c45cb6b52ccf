"""Checkpoint and restore by CRIU's service interface: ``criu swrk`` and the messages of its rpc.proto.

May use: what `container` may use.
Start with `service`, then `checkpoint` and `restore`.
"""
