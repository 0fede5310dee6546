"""The verifier: what an auditor runs elsewhere as one file (standalone.py), and `vendorgate verify` here (verify.py).

Its modules import the standard library and one another, nothing else.
"""
