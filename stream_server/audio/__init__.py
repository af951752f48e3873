"""From the bytes clients send to int16 mono at 16 kHz."""
