"""Its own secret, said wherever a connector can say something, in every form people hide things in.

The secret is the slot ``token``. The host cannot stop a connector from using what it was lent; it can see to it that
nothing it writes down itself holds it.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import time
import urllib.parse
from collections.abc import Iterator

from wellhead_hostile.frames import Said, Talk
from wellhead_sdk.wire import messages as m

SLOT = "token"


def forms(secret: str) -> tuple[str, ...]:
    """Return the secret as it is, escaped, in hex and in base64 at its three alignments, and the gzip of each."""
    raw = secret.encode()
    plain = (
        secret,
        json.dumps(secret)[1:-1],
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote_plus(secret),
        raw.hex(),
        raw.hex().upper(),
        *(base64.b64encode(b"#" * lead + raw).decode() for lead in range(3)),
        *(base64.urlsafe_b64encode(b"#" * lead + raw).decode() for lead in range(3)),
    )
    # Without what precedes and follows it, since nothing that is compressed together with it can be found again.
    alone = (*plain[:6], *(form[4:] for form in plain[7:9]), plain[6])
    packed = [gzip.compress(form.encode(), mtime=0) for form in alone]
    return (
        *plain,
        *(carried for body in packed for carried in (body.hex(), base64.b64encode(body).decode(), repr(body))),
    )


def logs(talk: Talk) -> Iterator[Said]:
    """Log every form on every channel, one of them cut in two."""
    secret = talk.secrets[SLOT]
    half = len(secret) // 2
    yield talk.schema()
    for form in forms(secret):
        for channel in (1, 2):
            os.write(channel, f"the secret is {form}.\n".encode())
        yield m.LogFrame(m.LogLevel.INFO, f"the secret is {form}.", (("form", form), *_as_a_key(form)))
    for channel in (1, 2):
        os.write(channel, secret[:half].encode())
        time.sleep(0.2)
        os.write(channel, secret[half:].encode() + b"\n")
    yield m.LogFrame(m.LogLevel.INFO, f"first half {secret[:half]}")
    yield m.LogFrame(m.LogLevel.INFO, f"{secret[half:]} second half")
    yield talk.batch()
    yield from talk.end()


def _as_a_key(form: str) -> tuple[tuple[str, str], ...]:
    # Half a form is none that could be recognised, and a key has no room for a whole long one.
    return ((form, "as a key"),) if len(form) <= 60 else ()


def error(talk: Talk) -> Iterator[Said]:
    """Fail with the secret in every text of the failure."""
    said = " ".join(forms(talk.secrets[SLOT]))
    yield from talk.pages(1)
    yield m.Failure("internal", "leak", said, None, talk.stream, said, (("token", said),))


def crash(talk: Talk) -> Iterator[Said]:
    """Die with the secret as the last words, which a diagnosis would quote."""
    yield from talk.pages(1)
    os.write(2, "\n".join(forms(talk.secrets[SLOT])).encode())
    os._exit(7)


def records(talk: Talk) -> Iterator[Said]:
    """Send the secret as data."""
    yield talk.schema()
    yield talk.batch(forms(talk.secrets[SLOT]))
    yield from talk.end()


def state(talk: Talk) -> Iterator[Said]:
    """Keep the secret in the checkpoint."""
    said = {"forms": forms(talk.secrets[SLOT])}
    yield talk.schema()
    yield talk.batch()
    yield talk.checkpoint(json.dumps(said).encode())
    yield talk.done()


def rejected(talk: Talk) -> Iterator[Said]:
    """Set a record aside whose sample, key and text are the secret."""
    yield talk.schema()
    yield talk.batch()
    for form in forms(talk.secrets[SLOT]):
        yield talk.rejected(form.encode(), text=form, key=json.dumps({"id": form}))
    yield from talk.end()


def violation(talk: Talk) -> Iterator[Said]:
    """Report a violation whose path is the secret."""
    yield from talk.pages(1)
    yield m.ViolationFrame("local_state", f"/var/{talk.secrets[SLOT]}", " ".join(forms(talk.secrets[SLOT])))
    yield from talk.end()


def identity(credentials: m.Credentials) -> m.Identity:
    """Answer Authenticate with the secret."""
    said = next((secret.value for secret in credentials.secrets if secret.name == SLOT), "")
    return m.Identity(said, forms(said), None, (m.Probe("leak", True, " ".join(forms(said))),))
