"""CPU time of an OHTTP round trip of 1 KiB: seal, open, seal, open, both ends together."""

import argparse
import json
import time
from pathlib import Path
from statistics import median

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sottovoce.core import hpke, ohttp

ROUNDS, RUNS = 400, 9
BODY = bytes(1024)


def round_trip_us(kem_id: int) -> float:
    """Median over runs, microseconds of CPU."""
    key = ohttp.GatewayKey(key_id=1, private_key=hpke.generate_private_key(kem_id))
    config, runs = key.config(), []
    for _ in range(RUNS):
        start = time.process_time()
        for _ in range(ROUNDS):
            sealed, opener = ohttp.seal_request(config, BODY)
            opener.open(ohttp.open_request([key], sealed).sealer.seal(BODY))
        runs.append(1e6 * (time.process_time() - start) / ROUNDS)
    return median(runs)


def x25519_us() -> float:
    """What the library takes for the three operations that a round trip cannot do without: one key, two exchanges."""
    peer, runs = X25519PrivateKey.generate(), []
    for _ in range(RUNS):
        start = time.process_time()
        for _ in range(ROUNDS):
            own = X25519PrivateKey.generate()
            own.exchange(peer.public_key())
            peer.exchange(own.public_key())
        runs.append(1e6 * (time.process_time() - start) / ROUNDS)
    return median(runs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = {
        "x25519_us": round_trip_us(hpke.X25519),
        "of_which_x25519_us": x25519_us(),
        "hybrid_us": round_trip_us(hpke.MLKEM768_X25519),
    }
    print(f"OHTTP round trip, 1 KiB, X25519          {result['x25519_us']:8.0f} µs CPU   (bound 160)")
    print(f"  of which X25519 in the library         {result['of_which_x25519_us']:8.0f} µs CPU")
    print(f"OHTTP round trip, 1 KiB, X25519 + ML-KEM {result['hybrid_us']:8.0f} µs CPU")
    if arguments.json:
        arguments.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
