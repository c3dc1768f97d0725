"""What is used where nobody says otherwise: one table, read by Python, the commands, the server and evaluation."""

from sodakit.generate.sampling import Sampling

SPEECH = Sampling(temperature=0.9, top_p=0.8)
"""How speech of a text, and of a translation, is drawn: SODA's settings."""
CONTINUATION = Sampling(temperature=1.0, top_p=0.9)
"""How a continuation is drawn: SODA's settings."""
CONTINUATION_S = 10.0
"""Longest continuation, in seconds. Evaluation has a protocol of its own."""
TRANSLATION_S = 30.0
"""Longest spoken translation, in seconds."""
