"""A broker as member of a Raft group (DLedger mode): what gives the pure core in `nodes.replication.raft` its I/O.

`node.GroupNode` is the door. The replicated log is the broker's commit log itself; positions are its byte offsets.
"""
