"""What happened, on disk.

Written before it is forwarded (log), found again (read, index), shown and handed over (show, replay, export,
pcapng), and dropped when its time is up (retention).
"""
