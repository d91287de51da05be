"""Other wordings of a draft, without an event loop: `python wording.py "cant make it tmrw sry"`."""

import sys

from sottovoce import SyncClient
from sottovoce.device.answers import Suggestion

with SyncClient() as client:
    for event in client.rewrite(sys.argv[1], "professional"):
        if isinstance(event, Suggestion):
            print(event.text)
