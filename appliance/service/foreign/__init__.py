"""Captures made elsewhere, judged as if this host had seen them happen.

    capture.py    a file of pcap or pcapng -> frames
    flows.py      frames -> flows -> sessions that look on -> notes
    found.py      notes -> what a person is shown of each session
    imports.py    notes -> the record, marked with the file they are from
"""
