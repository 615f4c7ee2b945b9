"""What the demo prints: steps, checks, and at the end a table of times."""

import sys


class Fatal(SystemExit):
    """The demo cannot go on."""


class Report:
    def __init__(self):
        self.steps, self.checks, self.failed, self.rows = 0, 0, [], []

    def step(self, text):
        self.steps += 1
        print(f"\n{self.steps}. {text}", flush=True)

    def line(self, text):
        print(f"   {text}", flush=True)

    def check(self, promise, kept, seen=None):
        """Notes whether a promise was kept; `seen` is shown when it was not."""
        self.checks += 1
        self.line(f"{'ok  ' if kept else 'FAIL'} {promise}" + ("" if kept else f": {seen}"))
        if not kept:
            self.failed.append(promise)

    def fatal(self, text):
        print(f"demo: {text}", file=sys.stderr, flush=True)
        raise Fatal(1)

    def measured(self, what, seconds, phases=None):
        self.rows.append((what, seconds, phases or {}))

    def table(self):
        print(f"\n{'What':<22} {'Time':>9}   Phases, as the daemon measured them")
        for what, seconds, phases in self.rows:
            shown = ", ".join(f"{name} {duration(spent)}" for name, spent in phases.items())
            print(f"{what:<22} {duration(seconds):>9}   {shown}".rstrip())

    def verdict(self):
        """The exit status."""
        if self.failed:
            print(f"\ndemo: FAILED: {len(self.failed)} of {self.checks} checks: " + "; ".join(self.failed))
            return 1
        print(f"\n{self.checks} checks\ndemo: ok")
        return 0


def duration(seconds):
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
