"""What an author tests a connector with: a conversation without a container, and the suite every connector passes.

harness.py      drive a connector, in process or at a socket, and get tables back
conformance.py  `class TestOrders(Conformance): connector = Orders; config = {...}`
"""

from wellhead_sdk.testing.conformance import Conformance
from wellhead_sdk.testing.harness import Broken, Conversation, Failed, Reading, at_socket, running

__all__ = ["Broken", "Conformance", "Conversation", "Failed", "Reading", "at_socket", "running"]
