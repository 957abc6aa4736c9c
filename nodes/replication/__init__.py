"""Master/slave replication: one primary, any number of replicas, byte-identical logs.

`epochs` who wrote which bytes, and up to where two logs agree (pure) · `lineage` the durable file of epochs ·
`frames` the wire protocol (pure) · `primary`, `replica` the two sides (pure) · `progress` what consumers commit on a
replica (pure) · `serving`, `following` the same with sockets; a broker imports both from `driver`.
"""
