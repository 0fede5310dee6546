"""Rules, decisions, masks, detectors. Pure: who, where to and facts in, a decision out."""
