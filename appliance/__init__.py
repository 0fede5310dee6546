"""vendorgate: a host appliance that judges what vendor agents do over the network."""
