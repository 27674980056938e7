"""Kill the server with -9 at random moments while clients send jobs, start it again each time, and look for every job.

python tests/robustness/kill_serve.py --kills 50
"""

import argparse
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from robustness.server import Server, write_picture

NUM_PICTURES = 5
SIDE = 24
NUM_CLIENTS = 4
MOST_IN_QUEUE = 1000
PATIENCE = 300
"""Seconds for an answer: other programs may keep the machine busy."""


@dataclass
class Outcome:
    """What came of it."""

    accepted: dict[str, int] = field(default_factory=dict)
    """Which picture each job is of that the server said it has."""
    unanswered: int = 0
    """Requests that got no answer, since the server was killed while it had them."""
    given_up: int = 0
    """Jobs that were being worked on at two kills: the server does not begin them a third time, and says so."""
    lost: int = 0
    wrong: int = 0
    """Jobs whose result is not that of an undisturbed run."""
    double: int = 0
    """Jobs that nobody asked for: more than the accepted and the unanswered ones."""
    left: list[str] = field(default_factory=list)
    """Files that belong to no job, or are half written."""
    in_requests: int = 0
    """Kills at which there were such requests."""
    taken: int = 0
    """Jobs of such requests: they were accepted, only nobody was told."""
    while_running: int = 0
    """Kills at which a job was being worked on."""

    @property
    def good(self) -> bool:
        """Nothing lost, nothing wrong, nothing left."""
        return bool(self.accepted) and not (self.lost or self.wrong or self.double or self.left)


def send(server: Server, pictures: list[bytes], outcome: Outcome, generator: random.Random, lock: Lock) -> None:
    """One job after the other, until the server is killed."""
    with httpx.Client(timeout=PATIENCE) as client:
        while True:
            number = generator.randrange(NUM_PICTURES)
            try:
                answer = client.post(f"{server.address}/v1/jobs", files={"file": pictures[number]})
            except httpx.ConnectError:  # it never had this one
                return
            except httpx.TransportError:
                with lock:
                    outcome.unanswered += 1
                return
            if answer.status_code == 202:
                with lock:
                    outcome.accepted[answer.json()["id"]] = number


def rows(server: Server) -> list[tuple[str, str]]:
    """Id and state of all jobs, read beside the server; "given up" is one of them."""
    with sqlite3.connect(server.folder / "queue/jobs.sqlite") as database:
        found = database.execute(
            "SELECT id, CASE WHEN error LIKE 'the server ended 2 times%' THEN 'given up' ELSE state END FROM jobs"
        ).fetchall()
    database.close()
    return found


def until_done(client: httpx.Client, server: Server) -> Iterator[tuple[str, str]]:
    """Wait for all jobs, and give their ids and states."""
    while any(state in ("queued", "running") for _, state in rows(server)):
        time.sleep(0.05)
    return iter(rows(server))


def try_it(folder: Path, *, kills: int, seed: int) -> Outcome:
    """Kill it so often, and compare with an undisturbed run."""
    generator, outcome, lock = random.Random(seed), Outcome(), Lock()
    pictures = [write_picture(folder / f"{n}.png", height=SIDE, width=SIDE, seed=n) for n in range(NUM_PICTURES)]
    server = Server(folder, "--max-queue", str(MOST_IN_QUEUE), "--keep-seconds", "100000")
    with httpx.Client(timeout=PATIENCE) as client:
        server.start()
        expected = [client.post(f"{server.address}/v1/upscale", files={"file": data}).content for data in pictures]
        for number in range(kills):
            before = outcome.unanswered
            clients = [
                Thread(target=send, args=(server, pictures, outcome, random.Random(f"{seed} {number} {client}"), lock))
                for client in range(NUM_CLIENTS)
            ]
            for thread in clients:
                thread.start()
            while not outcome.accepted:  # on a busy machine the first one takes its time
                time.sleep(0.01)
            time.sleep(generator.random() * 1.5)
            server.kill()
            for thread in clients:
                thread.join()
            outcome.in_requests += outcome.unanswered > before
            outcome.while_running += any(state == "running" for _, state in rows(server))
            if number % 5 == 4:  # in the middle of a start, too
                server.start(ready=False)
                time.sleep(generator.random() * 5)
                server.kill()
            server.start()
        states = dict(until_done(client, server))
        for identity, number in outcome.accepted.items():
            if states.get(identity) != "done":
                outcome.lost += states.get(identity) != "given up"
                continue
            result = client.get(f"{server.address}/v1/jobs/{identity}/result").content
            outcome.wrong += result != expected[number]
        outcome.given_up = list(states.values()).count("given up")
        taken = states.keys() - outcome.accepted.keys()
        outcome.wrong += sum(states[identity] not in ("done", "given up") for identity in taken)
        outcome.taken = len(taken)
        outcome.double = max(0, outcome.taken - outcome.unanswered)
    server.stop()
    files = folder / "queue/files"
    outcome.left = [path.name for path in files.iterdir() if path.name not in states]
    for identity in states:
        with suppress(FileNotFoundError):
            names = {path.name for path in (files / identity).iterdir()}
            outcome.left += [f"{identity}/{name}" for name in names - {"source.png", "result.png"}]
    return outcome


def main() -> None:
    """Print the outcome; exit 1 if anything was lost, wrong or left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = try_it(Path(folder), kills=options.kills, seed=options.seed)
    of_pictures = dict(sorted(Counter(outcome.accepted.values()).items()))
    print(
        f"{options.kills} kills, {outcome.while_running} of them while a job was worked on, "
        f"{outcome.in_requests} within requests"
    )
    print(f"{len(outcome.accepted)} jobs accepted, of pictures {of_pictures}")
    print(f"{outcome.unanswered} requests unanswered, of which {outcome.taken} had become jobs")
    print(f"given up {outcome.given_up}, lost {outcome.lost}, wrong {outcome.wrong}, double {outcome.double}")
    print(f"left over {outcome.left}")
    sys.exit(not outcome.good)


if __name__ == "__main__":
    main()
