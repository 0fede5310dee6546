"""vendorgate: a host appliance that judges what vendor agents do over the network."""

from appliance import compiled

compiled.settle()
