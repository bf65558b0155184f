"""Inputs made from a seed; the same seed gives the same bytes."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

PEOPLE = ("id", "uuid", "full_name", "email", "country", "status", "amount", "updated_at", "attrs")


def people_csv(target: Path, rows: int, seed: int) -> None:
    """Write ``rows`` people of about 155 bytes each: keys, texts, few-valued columns, a number, a time, quoted JSON."""
    chance = random.Random(seed)
    with target.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(PEOPLE) + "\n")
        for number in range(rows):
            file.write(
                f"{number},{uuid.UUID(int=chance.getrandbits(128), version=4)},"
                f"Given{chance.randrange(100_000)} Family{chance.randrange(100_000)},user{number}@example.com,"
                f"{chance.choice(('NL', 'DE', 'FR', 'US', 'GB'))},{chance.choice(('active', 'paused', 'closed'))},"
                f"{chance.randrange(10**7) / 100:.2f},"
                f"2026-{chance.randrange(1, 13):02d}-{chance.randrange(1, 29):02d} 12:00:{chance.randrange(60):02d},"
                f'"{{""a"": {chance.randrange(1000)}, ""b"": ""{chance.choice(("x", "yy", "zzz"))}""}}"\n'
            )
