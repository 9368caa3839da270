"""A prompt in, what to expect of it out: hand-written rules and a learned model, blended. Pure; imports domain only."""
