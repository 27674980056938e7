"""Many requests from many clients at once, good ones and bad ones: what was answered how, and the server's memory.

python tests/robustness/load_serve.py --requests 1000 --clients 50
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from robustness.server import Server, write_picture

MAX_QUEUE = 30
"""Fewer than there are clients, so that some are told to come again."""
MOST_SECONDS_OF_WAITING = 1
"""Clients come again sooner than they are told."""


@dataclass(frozen=True)
class Ask:
    """A kind of request: what is sent where, and what must come back in the end."""

    path: str
    data: bytes
    status: int
    expected: bytes | None = None
    fields: dict[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """What was answered."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often each kind of request got each status."""
    told_to_wait: int = 0
    """Answers that the queue is full, or too much is being sent; the client comes again with the same request."""
    wrong: list[str] = field(default_factory=list)
    """Answers that should have been others, and results of the wrong bytes."""
    lost: int = 0
    """Accepted jobs that did not become done."""
    memory: tuple[int, int, int] = (0, 0, 0)
    """Bytes of the server's process: before the first request, after a fifth of them, and at the end."""


def kinds_of_request(folder: Path, server: Server) -> dict[str, Ask]:
    """What clients send: half of it good."""
    small = write_picture(folder / "small.png", height=24, width=32, seed=0)
    photo = write_picture(folder / "photo.jpg", height=48, width=48, seed=1)
    large = write_picture(folder / "large.png", height=100, width=101, seed=2)
    huge = write_picture(folder / "huge.png", height=301, width=300, seed=3)
    with httpx.Client(timeout=60) as client:
        made = [
            client.post(f"{server.address}/v1/upscale", files={"file": data}, data=fields).content
            for data, fields in ((small, {}), (photo, {"format": "webp"}))
        ]
    return {
        "small picture": Ask("/v1/upscale", small, 200, made[0]),
        "photo into WebP": Ask("/v1/upscale", photo, 200, made[1], {"format": "webp"}),
        "job": Ask("/v1/jobs", large, 202),
        "too large to answer directly": Ask("/v1/upscale", large, 413),
        "too many pixels": Ask("/v1/jobs", huge, 413),
        "too many bytes": Ask("/v1/jobs", bytes(600_000), 413),
        "cut short": Ask("/v1/upscale", small[: len(small) // 2], 422),
        "no image": Ask("/v1/upscale", b"<html>" * 100, 415),
    }


def try_it(folder: Path, *, num_requests: int, num_clients: int, seed: int) -> Outcome:
    """Send so many requests from so many clients, each sending the next when it has an answer."""
    server, outcome, lock = (
        Server(
            folder,
            *("--max-queue", str(MAX_QUEUE), "--direct-pixels", "10000", "--max-pixels", "90000"),
            *("--max-bytes", "500000"),
        ),
        Outcome(),
        threading.Lock(),
    )
    server.start()
    idle = server.memory()
    try:
        asks = kinds_of_request(folder, server)
        jobs: list[str] = []

        def client(number: int, count: int) -> None:
            generator = random.Random(f"{seed} {number}")
            with httpx.Client(timeout=300) as http:
                for _ in range(count):
                    name = generator.choice(["small picture", "photo into WebP", *asks])
                    ask = asks[name]
                    while True:
                        answer = http.post(server.address + ask.path, files={"file": ask.data}, data=ask.fields)
                        if answer.status_code not in (429, 503):
                            break
                        with lock:
                            outcome.told_to_wait += 1
                        time.sleep(generator.random() * MOST_SECONDS_OF_WAITING)
                    with lock:
                        outcome.answers[name, answer.status_code] += 1
                        if answer.status_code == 202:
                            jobs.append(answer.json()["id"])
                        if answer.status_code != ask.status:
                            outcome.wrong.append(f"{name}: {answer.status_code} {answer.text[:200]}")
                        elif answer.status_code == 200 and answer.content != ask.expected:
                            outcome.wrong.append(f"{name}: other bytes")
                        elif answer.status_code >= 400 and set(answer.json()) != {"error"}:
                            outcome.wrong.append(f"{name}: {answer.text[:200]}")

        def crowd(count: int) -> None:
            threads = [threading.Thread(target=client, args=(number, count)) for number in range(num_clients)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        each = num_requests // num_clients
        warm_up = max(1, each // 5)
        crowd(warm_up)
        before = server.memory()
        crowd(each - warm_up)
        with httpx.Client(timeout=300) as http:
            for identity in jobs:
                final = http.get(f"{server.address}/v1/jobs/{identity}/events").text
                outcome.lost += "event: done" not in final
        outcome.memory = idle, before, server.memory()
    finally:
        server.stop()
    return outcome


def main() -> None:
    """Print the outcome; exit 1 if an answer was wrong or a job lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = try_it(Path(folder), num_requests=options.requests, num_clients=options.clients, seed=options.seed)
    for (name, status), number in sorted(outcome.answers.items()):
        print(f"{number:5d}  {status}  {name}")
    idle, before, after = (round(number / 2**20) for number in outcome.memory)
    print(f"{sum(outcome.answers.values())} answers, {len(outcome.wrong)} of them wrong, {outcome.lost} jobs lost")
    print(f"{outcome.told_to_wait} times a client was told to come again")
    print(f"memory of the server: {idle} MB idle, {before} MB after a fifth of the requests, {after} MB at the end")
    print("\n".join(outcome.wrong[:20]))
    sys.exit(bool(outcome.wrong or outcome.lost))


if __name__ == "__main__":
    main()
