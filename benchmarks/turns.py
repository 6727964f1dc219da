"""The worker's side of a measurement in turns: one line in, the time of one step out."""

import os
import sys
import time
import traceback


def memory():
    """Resident memory of this process now and at its peak, in MiB."""
    found = {}
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(("VmRSS", "VmHWM")):
                name, amount = line.split(":")
                found[name] = int(amount.split()[0]) / 1024
    return found["VmRSS"], found["VmHWM"]


def serve(prepare):
    """Runs `prepare()`, which returns a step, and takes one step for each line on standard input.

    Prints "ready", or "failed: why"; then for each step a line of the seconds that passed and
    of those that processors worked, and for the line "memory" the memory before the first step and
    at the peak, in MiB.
    """
    # What the frameworks print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(text):
        print(text, file=answers, flush=True)

    try:
        step = prepare()
        before, _ = memory()
        step()
    except Exception as error:  # A peer that cannot train a model is a result, too.
        traceback.print_exc()
        lines = [line for line in str(error).splitlines() if line.strip()]
        answer(f"failed: {type(error).__name__}: {lines[0].strip() if lines else ''}"[:200])
        return
    answer("ready")
    for line in sys.stdin:
        if line.strip() == "memory":
            answer(f"{before} {memory()[1]}")
            continue
        start, used = time.perf_counter(), time.process_time()
        step()
        answer(f"{time.perf_counter() - start} {time.process_time() - used}")
