# SPDX-License-Identifier: Apache-2.0
"""From raw samples to one table and one chart for each form."""
import json
import statistics
import subprocess

from seats import SEATS, Shunt
from workloads import WORKLOADS

ENOUGH = 5  # samples; a figure of fewer is none
AGREES = 0.02  # what two runs of one binary may differ by

# What a row shows: key, title, format. A title's {} is what CPU is counted for.
LOAD_ROWS = (
    ("cpu", "CPU of the proxy for a {}", "{:.2f}"),
    ("all_added", "CPU of all for a {}, less direct's", "{:.2f}"),
    ("rate", "requests/s", "{:.0f}"),
    ("rate_direct", "requests/s ÷ direct", "{:.2f}"),
    ("busy", "the proxy's share of its core", "{:.2f}"),
)
BULK_ROWS = LOAD_ROWS[:2] + (("mb_s", "MB/s", "{:.0f}"), LOAD_ROWS[4])
LATENCY_ROWS = (
    LOAD_ROWS[0],
    ("p50_us", "p50, µs", "{:.1f}"),
    ("p50_added", "p50 less direct's, µs", "{:.1f}"),
)
OPEN_ROWS = LATENCY_ROWS + (
    ("p99_us", "p99, µs", "{:.1f}"),
    ("p99_added", "p99 less direct's, µs", "{:.1f}"),
    ("late", "late requests", "{:.0f}"),
)
MEMORY_ROWS = (
    ("start", "at the start, MB", "{:.2f}"),
    ("maps", "of them maps of kernel programs, MB", "{:.2f}"),
    ("base", "after the first requests, MB", "{:.2f}"),
    ("at_1000", "bytes for each of 1,000", "{:.0f}"),
    ("at_8000", "bytes for each of 8,000", "{:.0f}"),
    ("kernel", "of the kernel's slab, all ends", "{:.0f}"),
)
NO_RATIO = ("all_added", "rate_direct", "busy", "p50_added", "p99_added", "late", "maps",
            "kernel")
MEGABYTES = ("start", "maps", "base")


def rows_of(work):
    if not work.load:
        return MEMORY_ROWS
    if work.unit == "GB":
        return BULK_ROWS
    if "-r" in work.load:
        return OPEN_ROWS
    return LATENCY_ROWS if work.one_core else LOAD_ROWS


class Samples:
    """Those that count, by (form, workload, seat) and round."""

    def __init__(self, path):
        self.run = {}
        self.kept = {}
        self.dropped = []
        self.floors = {}
        with open(path, encoding="utf-8") as f:
            for line in f:
                sample = json.loads(line)
                if sample["type"] == "run":
                    self.run = sample
                elif sample["type"] == "floor":
                    cores = self.floors.setdefault(sample["kind"], {True: [], False: []})
                    cores[sample["one_core"]].append(sample["metrics"]["p50_us"])
                elif sample["why"] is None:
                    key = (sample["form"], sample["workload"], sample["seat"])
                    rounds = self.kept.setdefault(key, {})
                    rounds.setdefault(sample["round"], []).append(sample["metrics"])
                else:
                    self.dropped.append(sample)
        self.forms = list(dict.fromkeys(key[0] for key in self.kept))
        self.workloads = [w for w in WORKLOADS if any(key[1] == w for key in self.kept)]
        self.seats = [s for s in SEATS if any(key[2] == s for key in self.kept)]

    def by_round(self, form, workload, seat, metric):
        """{round: value}; direct has two samples in a round, whose mean it is."""
        values = {}
        for number, samples in self.kept.get((form, workload, seat), {}).items():
            found = [s[metric] for s in samples if s.get(metric) is not None]
            if found:
                values[number] = statistics.fmean(found)
        return values

    def values(self, form, workload, seat, metric):
        """What stands in a cell, by round."""
        direct = {"all_added": "all", "rate_direct": "rate", "p50_added": "p50_us",
                  "p99_added": "p99_us"}.get(metric)
        if metric in ("cpu", "busy") and passes_by(form, workload, seat):
            return {}
        own = self.by_round(form, workload, seat, direct or metric)
        if direct is None:
            return {n: v / 1e6 if metric in MEGABYTES else v for n, v in own.items()}
        if seat == "direct":
            return {}
        base = self.by_round(form, workload, "direct", direct)
        if metric == "rate_direct":
            return {n: v / base[n] for n, v in own.items() if n in base}
        return {n: v - base[n] for n, v in own.items() if n in base}

    def pairs(self, form, workload, one, other):
        """{round: [CPU of one ÷ CPU of the other, in each pass that nobody disturbed]}"""
        kept = [self.kept.get((form, workload, seat), {}) for seat in (one, other)]
        pairs = {}
        for number in kept[0].keys() & kept[1].keys():
            rows = (samples[number][0].get("passes", {}).get("cpu", []) for samples in kept)
            found = [a / b for a, b in zip(*rows) if a and b]
            if found:
                pairs[number] = found
        return pairs

    def ratio(self, form, workload, one, other, metric):
        """Of each round. Of CPU it is the median of its passes, in which both took their turns
        one after the other."""
        if passes_by(form, workload, one) or passes_by(form, workload, other):
            return {}
        if metric == "cpu":
            return {n: statistics.median(p)
                    for n, p in self.pairs(form, workload, one, other).items()}
        a, b = (self.by_round(form, workload, seat, metric) for seat in (one, other))
        return {n: a[n] / b[n] for n in a if b.get(n)}


def passes_by(form, workload, seat):
    """Does that workload pass by that seat? Captured connections that no rule on HTTP selects are
    decided in the kernel: not proxied, so there is no CPU of a proxy to be compared."""
    return form == "ns" and not WORKLOADS[workload].http and isinstance(SEATS[seat], Shunt)


def middle(values):
    """Median and the middle half."""
    values = sorted(values)
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, mid, high = statistics.quantiles(values, n=4, method="inclusive")
    return mid, low, high


def cell(values, form):
    if not values:
        return ""
    mid, low, high = (form.format(x) for x in middle(values.values()))
    text = mid if low == mid == high else f"{mid} ({low}–{high})"
    return text if len(values) >= ENOUGH else f"{text} n={len(values)}"


def table(samples):
    heads = ["form", "workload", ""] + [SEATS[s].title for s in samples.seats]
    pairs = [("shunt", "haproxy"), ("again", "shunt")]
    heads += [f"{SEATS[a].title} ÷ {SEATS[b].title}" for a, b in pairs]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for form in samples.forms:
        for name in samples.workloads:
            work = WORKLOADS[name]
            for metric, title, shown in rows_of(work):
                unit = "request, µs" if work.unit == "request" else "GB, s"
                cells = [form, work.title, title.format(unit)]
                cells += [cell(samples.values(form, name, s, metric), shown)
                          for s in samples.seats]
                cells += [cell(samples.ratio(form, name, a, b, metric)
                               if metric not in NO_RATIO else {}, "{:.3f}")
                          for a, b in pairs]
                if any(cells[3:]):
                    lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def error_of(values):
    """Of their median, from their middle half."""
    _, low, high = middle(values)
    return 1.25 * (high - low) / 1.35 / len(values) ** 0.5


def verdict_of(ratio, error, rounds):
    if rounds < ENOUGH:
        return "too few rounds to say"
    if error > AGREES:
        return "too noisy to say: more rounds, or a quieter machine"
    if abs(ratio - 1) > AGREES:
        return "DISAGREES: mend the bench before anything else"
    return f"agrees within {AGREES:.0%}"


def agreement(samples):
    """The bench measured against itself: (lines of text, False if they say that it is unfit)"""
    lines, good = [], True
    for form in samples.forms:
        for name in samples.workloads:
            rounds = {} if passes_by(form, name, "again") else \
                samples.pairs(form, name, "again", "shunt")
            if not rounds:
                continue
            pairs = [ratio for found in rounds.values() for ratio in found]
            mid, error = middle(pairs)[0], error_of(pairs)
            if samples.run.get("other"):
                verdict = "another binary"
            elif WORKLOADS[name].unit != "request":
                verdict = "not judged"
            else:
                verdict = verdict_of(mid, error, len(rounds))
                good = good and not verdict.startswith(("DISAGREES", "too noisy"))
            lines.append(f"{form} {name}: shunt again ÷ shunt, CPU of the proxy: {mid:.3f} ± "
                         f"{error:.3f} of {len(pairs)} pairs in {len(rounds)} rounds, {verdict}")
    return lines, good


def text(samples):
    run = samples.run
    lines = [table(samples), "", "A cell: median (middle half) of the rounds; with n=, too few "
             f"of them for a figure (fewer than {ENOUGH}). Ratios are medians of each round's "
             "own, of CPU from its passes. lo: all over 127.0.0.1, shunt by an explicit listener. ns: client and server "
             "in two network namespaces, shunt captures; what no rule on HTTP selects is decided "
             "in the kernel and not proxied, so that the TCP hop has no CPU of shunt there.", ""]
    lines += agreement(samples)[0]
    lines += ["", "64 bytes there and back, p50 in µs on one core and on two: " + ", ".join(
        f"{kind} {statistics.median(cores[True]):.1f} and {statistics.median(cores[False]):.1f}"
        for kind, cores in samples.floors.items())]
    lines += ["", f"{len(samples.dropped)} samples did not count."]
    lines += [f"- round {s['round']}, {s['form']} {s['workload']} {s['seat']}: {s['why']}"
              for s in samples.dropped[:20]]
    lines += ["", f"{run['time']}; {run['machine']}", "; ".join(
        f"{name} {version}" for name, version in run["versions"].items() if version),
        "", "Again: " + run["command"]]
    return "\n".join(lines) + "\n"


CHART = """set terminal pngcairo size 1800,1000 noenhanced
set output "{path}"
set multiplot layout 2,3 title "{title}"
set style data histogram
set style histogram errorbars gap 2 lw 1
set style fill solid 0.7 border -1
set key outside top horizontal
set yrange [0:*]
set grid ytics
"""


def panel(samples, form, title, workloads, metric):
    """gnuplot's words for one group of bars, or nothing."""
    seats = [s for s in samples.seats
             if any(samples.values(form, w, s, metric) for w in workloads)]
    workloads = [w for w in workloads if any(samples.values(form, w, s, metric) for s in seats)]
    if not workloads:
        return ""
    block = f"${metric}_{'_'.join(workloads)}".replace("-", "_")
    lines = [f"{block} << EOD"]
    for name in workloads:
        row = [f'"{name}"']
        for seat in seats:
            values = samples.values(form, name, seat, metric)
            row += [f"{x:.4g}" for x in middle(values.values())] if values else ["NaN"] * 3
        lines.append(" ".join(row))
    lines += ["EOD", f'set title "{title}"', "plot " + ", ".join(
        f"{block} using {2 + 3 * i}:{3 + 3 * i}:{4 + 3 * i}:xtic(1) "
        f"title \"{seat}\" lt {list(SEATS).index(seat) + 1}" for i, seat in enumerate(seats))]
    return "\n".join(lines) + "\n"


def chart(samples, form, path):
    works = [WORKLOADS[w] for w in samples.workloads if WORKLOADS[w].load]
    hops = [w.name for w in works if w.unit == "request" and not w.fresh]
    script = CHART.format(path=path, title=f"form {form}: median and middle half of "
                          f"{samples.run['rounds']} rounds; {samples.run['machine']}")
    for title, names, metric in (
            ("CPU of the proxy for a request, µs", hops, "cpu"),
            ("CPU of the proxy for a new connection, µs", [w.name for w in works if w.fresh],
             "cpu"),
            ("CPU of the proxy for a GB, s", [w.name for w in works if w.unit == "GB"], "cpu"),
            ("latency added to direct (p50), µs",
             [w.name for w in works if rows_of(w) in (OPEN_ROWS, LATENCY_ROWS)], "p50_added"),
            ("bytes for each of 8,000 idle connections", ["memory"], "at_8000"),
            ("memory at the start, MB", ["memory"], "start")):
        script += panel(samples, form, title, names, metric)
    subprocess.run(["gnuplot"], input=script.encode(), check=True)
