"""Prints the table and the ratios from the lines that `run` wrote, one a turn:
round, contestant, answers, µs, p50 µs, p99 µs, answers of 400 and above, socket errors, 200s with the warm-up, rows stored.

Exit status 1: a goal was missed, or a contestant said 200 to more than it stored."""

import csv
import sys
from collections import defaultdict
from dataclasses import dataclass
from statistics import median

# Hookpack's requests per second over the contestant's, in the same round.
GOALS = {"bare": 0.25, "insert": 2.2, "express": 8, "fastapi": 12}


@dataclass
class Turn:
    rate: float
    p50_ms: float
    p99_ms: float
    errors: int
    ok: int
    stored: int | None

    @property
    def wrong(self) -> bool:
        return self.stored is not None and self.stored < self.ok


def main(path: str) -> int:
    turns = read(path)
    print_table(turns)
    missed = print_ratios(turns) if "hookpack" in turns else 0
    wrong = any(turn.wrong for contestant in turns.values() for turn in contestant)
    return 1 if missed or wrong else 0


def read(path: str) -> dict[str, list[Turn]]:
    turns = defaultdict(list)
    with open(path) as lines:
        for _, contestant, answers, us, p50, p99, refused, broken, ok, stored in csv.reader(lines, delimiter="\t"):
            turns[contestant].append(
                Turn(
                    rate=int(answers) / int(us) * 1e6,
                    p50_ms=int(p50) / 1000,
                    p99_ms=int(p99) / 1000,
                    errors=int(refused) + int(broken),
                    ok=int(ok),
                    stored=None if stored == "-" else int(stored),
                )
            )
    return turns


def print_table(turns: dict[str, list[Turn]]) -> None:
    print(f"\n{'':<10}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'errors':>8}{'200s':>10}{'stored':>10}")
    for contestant, rounds in turns.items():
        stored = "" if rounds[0].stored is None else sum(turn.stored for turn in rounds)
        print(
            f"{contestant:<10}"
            f"{median(turn.rate for turn in rounds):>9.0f}"
            f"{median(turn.p50_ms for turn in rounds):>9.1f}"
            f"{median(turn.p99_ms for turn in rounds):>9.1f}"
            f"{sum(turn.errors for turn in rounds):>8}"
            f"{sum(turn.ok for turn in rounds):>10}"
            f"{stored:>10}"
            f"{'   WRONG: said 200 to more than it stored' if any(turn.wrong for turn in rounds) else ''}"
        )


def print_ratios(turns: dict[str, list[Turn]]) -> int:
    """Each goal that this run can tell of; how many were missed."""
    print()
    missed = 0
    for other, goal in GOALS.items():
        if other in turns:
            ratio = median(ours.rate / theirs.rate for ours, theirs in zip(turns["hookpack"], turns[other]))
            missed += verdict(f"hookpack / {other}", f"{ratio:.2f}", f"≥ {goal}", ratio >= goal)
    if "insert" in turns:
        ours, theirs = (median(turn.p99_ms for turn in turns[name]) for name in ("hookpack", "insert"))
        missed += verdict("hookpack's p99", f"{ours:.1f} ms", f"< insert's {theirs:.1f} ms", ours < theirs)
    return missed


def verdict(what: str, measured: str, goal: str, met: bool) -> bool:
    print(f"{what:<22}{measured:>9}   {goal:<22}{'met' if met else 'MISSED'}")
    return not met


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
