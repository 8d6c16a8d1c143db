"""Reads dashboard.json into the types of Grafana's own SDK, writes it out again, and says what they do not know.

    pip install grafana-foundation-sdk && python check_dashboard.py dashboard.json
"""

import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard


def differences(read, known, path=""):
    """What stands in the file, and not in what Grafana's types have made of it. They may add defaults."""
    if isinstance(read, dict) and isinstance(known, dict):
        for key, value in read.items():
            if key not in known:
                yield f"{path}/{key} is not known"
            else:
                yield from differences(value, known[key], f"{path}/{key}")
    elif isinstance(read, list) and isinstance(known, list) and len(read) == len(known):
        for at, (one, other) in enumerate(zip(read, known)):
            yield from differences(one, other, f"{path}/{at}")
    elif read != known:
        yield f"{path} is {read!r}, and read as {known!r}"


def main(file):
    with open(file, encoding="utf-8") as text:
        read = json.load(text)
    known = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(read)))
    found = list(differences(read, known))
    for line in found:
        print(f"{file}: {line}")
    return 1 if found or not read["panels"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
