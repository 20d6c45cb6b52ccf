"""Checkpoint and restore, by CRIU's service interface: ``criu swrk`` and the messages of its rpc.proto."""
