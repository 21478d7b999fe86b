"""Prints what hostile mappers cost from the lines that `mappers` wrote, one a sender and turn:
state, sender, answers, µs, p50 µs, p99 µs, answers of 400 and above, socket errors.

Exit status 1: a goal was missed."""

import csv
import sys
from collections import defaultdict
from dataclasses import dataclass
from statistics import median

STATES = {"alone": "no hostile trigger", "one": "one hostile trigger", "all": "all workers held"}
# p99 against the same sender's alone, in the same round.
GOAL = 2


@dataclass
class Turn:
    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int


def main(path: str) -> int:
    turns = read(path)
    print_table(turns)
    print()
    senders = [("plain", "one"), ("plain", "all"), ("mapped", "one"), ("mapped", "all")]
    missed = sum(verdict(turns, sender, state) for sender, state in senders)
    return 1 if missed else 0


def read(path: str) -> dict[tuple[str, str], list[Turn]]:
    turns = defaultdict(list)
    with open(path) as lines:
        for state, sender, answers, us, p50, p99, refused, broken in csv.reader(lines, delimiter="\t"):
            turns[state, sender].append(
                Turn(int(answers), int(us) / 1e6, int(p50) / 1e3, int(p99) / 1e3, int(refused), int(broken))
            )
    return turns


def print_table(turns: dict[tuple[str, str], list[Turn]]) -> None:
    print(f"\n{'':<21}{'sender':<10}{'req/s':>8}{'p50 ms':>9}{'p99 ms':>9}{'refused':>9}{'broken':>8}")
    for state, told in STATES.items():
        for sender in ("plain", "mapped", "hostile"):
            if rounds := turns.get((state, sender)):
                print(
                    f"{told:<21}{sender:<10}"
                    f"{median(turn.answers / turn.seconds for turn in rounds):>8.0f}"
                    f"{median(turn.p50_ms for turn in rounds):>9.2f}"
                    f"{median(turn.p99_ms for turn in rounds):>9.2f}"
                    f"{sum(turn.refused for turn in rounds):>9}"
                    f"{sum(turn.broken for turn in rounds):>8}"
                )


def verdict(turns: dict[tuple[str, str], list[Turn]], sender: str, state: str) -> bool:
    pairs = list(zip(turns[state, sender], turns["alone", sender]))
    ratio = median(now.p99_ms / alone.p99_ms for now, alone in pairs)
    half = median(now.p50_ms / alone.p50_ms for now, alone in pairs)
    met = ratio <= GOAL
    print(f"{sender + ', ' + STATES[state]:<30}p50 × {half:<8.2f}p99 × {ratio:<8.2f}≤ {GOAL:<6}{'met' if met else 'MISSED'}")
    return not met


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
