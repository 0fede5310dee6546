"""What happened, on disk.

Written before it is forwarded (log), found again (read, index), shown and handed over (show, replay, export,
pcapng), and dropped when its time is up (retention).
What is done is sealed by the hub and told of in signed checkpoints (keeper, seal, checkpoint); whether all of it is
whole says verify, also as one file for others (audit, standalone). The layout is in FORMAT.md.
"""
