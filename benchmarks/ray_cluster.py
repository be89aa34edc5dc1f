"""llamaq on a Ray cluster whose machines are network namespaces of this one, joined by a bridge: the same bytes however
many workers there are and whoever is killed, what goes over the network, and how long it takes. As root on Linux:
``ray_cluster.py MODEL [--json FILE] [--only bytes|speed|stages]``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from report import machine

HEAD = "10.77.0.1"
ADDRESS = f"{HEAD}:6399"
BIN = Path(sys.executable).parent


def sh(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def inside(number: int, *words: str) -> list[str]:
    return ["ip", "netns", "exec", f"llamaq{number}", *words]


@contextmanager
def network(machines: int) -> Iterator[None]:
    """Namespaces llamaq0 ... with the addresses 10.77.0.1 ..., each behind a cable to one bridge."""
    sh("ip", "link", "add", "llamaq", "type", "bridge")
    try:
        sh("ip", "link", "set", "llamaq", "up")
        for i in range(machines):
            sh("ip", "netns", "add", f"llamaq{i}")
            sh("ip", "link", "add", f"llamaq{i}", "type", "veth", "peer", "name", "cable", "netns", f"llamaq{i}")
            sh("ip", "link", "set", f"llamaq{i}", "master", "llamaq", "up")
            for words in (["link", "set", "lo", "up"], ["link", "set", "cable", "up"],
                          ["address", "add", f"10.77.0.{i + 1}/24", "dev", "cable"]):  # fmt: skip
                sh("ip", "-n", f"llamaq{i}", *words)
        yield
    finally:
        for i in range(machines):
            kill_machine(i)
            sh("ip", "netns", "delete", f"llamaq{i}", check=False)
            sh("ip", "link", "delete", f"llamaq{i}", check=False)
        sh("ip", "link", "delete", "llamaq")


def pids(number: int) -> list[int]:
    return [int(pid) for pid in sh("ip", "netns", "pids", f"llamaq{number}", check=False).split()]


def kill_machine(number: int) -> None:
    for pid in pids(number):
        if pid != os.getpid():
            os.kill(pid, signal.SIGKILL)


def kill_worker(number: int, name: bytes) -> None:
    """Kills an actor of a machine."""
    for pid in pids(number):
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::" + name):
            os.kill(pid, signal.SIGKILL)
            return
    raise SystemExit(f"machine {number} has no {name.decode()}")


def start_machine(number: int, cpus: int) -> None:
    join = ["--head", "--port", "6399", "--include-dashboard=false"] if number == 0 else ["--address", ADDRESS]
    own = ["--num-cpus", str(cpus), "--node-ip-address", f"10.77.0.{number + 1}", "--disable-usage-stats"]
    store = ["--object-store-memory", str(100 * 2**20)]
    # Its processes would keep a pipe open.
    with TemporaryFile("w+") as out:
        words = inside(number, str(BIN / "ray"), "start", *join, *own, *store)
        if subprocess.run(words, stdout=out, stderr=out).returncode:
            out.seek(0)
            raise SystemExit(out.read())


def traffic(machines: int) -> int:
    """Bytes that machines have received so far."""
    found = 0
    for i in range(machines):
        (link,) = json.loads(sh("ip", "-n", f"llamaq{i}", "-s", "-j", "link", "show", "cable"))
        found += link["stats64"]["rx"]["bytes"]
    return found


def drive(*words: str) -> subprocess.Popen[str]:
    """This script in the head's namespace."""
    command = inside(0, sys.executable, __file__, *words)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the driver ended with {process.returncode}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def batch(model: str, source: str, out: str, workers: int, threads: int, parallel: int, address: str) -> None:
    """Answers a file of requests, and prints the seconds, and how many a second once all workers are there."""
    from llamaq.batch import BatchJob, run_batch

    job = BatchJob(model, {"n_ctx": 512, "n_cache": 512 * parallel, "threads": threads}, parallel=parallel)
    ends: list[float] = []
    if workers:
        from llamaq.distributed.ray import cluster_batch

        answering = cluster_batch(job, address, workers=workers)
    else:

        def answering(requests: Any, done: Callable[[Any, str], None]) -> None:
            with job.answerer() as answerer:
                answerer.run(requests, done)

    def timed(requests: Any, done: Callable[[Any, str], None]) -> None:
        def note(request: Any, line: str) -> None:
            ends.append(time.perf_counter())
            done(request, line)

        answering(requests, note)

    began = time.perf_counter()
    run_batch(job, source, out, timed)
    seconds, warm = time.perf_counter() - began, len(ends) // 4  # some workers begin later than others
    rate = (len(ends) - warm) / (ends[-1] - ends[warm - 1])
    print(json.dumps({"seconds": seconds, "requests per second": rate}))


def stages(model: str, count: int, texts: int, tokens: int) -> None:
    """Writes with a model in stages, and prints how fast, and what it wrote."""
    import ray

    from llamaq import LLM, SamplingParams
    from llamaq.distributed.ray import staged

    ray.init(ADDRESS, log_to_driver=False)
    prompts = [f"A story about number {i}:" for i in range(texts)]
    options: dict[str, Any] = {"max_tokens": tokens, "sampling": SamplingParams(seed=1, ignore_eos=True)}
    found: dict[str, Any] = {}

    def measured(own: Any) -> dict[str, Any]:
        own.batch(["x"], max_tokens=1)
        rows = {}
        for name, some in (("one text", prompts[:1]), (f"{texts} texts", prompts)):
            before, began = traffic(3), time.perf_counter()
            done = own.batch(some, **options)
            seconds, count = time.perf_counter() - began, len(some) * tokens
            rows[name] = {
                "tokens per second": count / seconds, "bytes per token": (traffic(3) - before) / count,
                "texts": [each.text for each in done],
            }  # fmt: skip
        return rows

    with staged(model, stages=count, n_ctx=256, texts=texts, threads=1) as own:
        found["stages"] = measured(own)
    with LLM.load(model, n_ctx=256, n_cache=256 * texts, threads=1, speculation=False) as llm:
        found["one process, one thread"] = measured(llm)
    if len({str([row.pop("texts") for row in rows.values()]) for rows in found.values()}) > 1:
        raise SystemExit("stages have written something else")
    print(json.dumps(found))


def requests(path: Path, count: int, tokens: int) -> None:
    lines = [
        {"custom_id": f"r{i}", "method": "POST", "url": "/v1/completions",
         "body": {"prompt": f"A story about number {i}:", "max_tokens": tokens, "temperature": 1}}
        for i in range(count)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def same_bytes(model: str, folder: Path) -> dict[str, Any]:
    """Workers, requests at once, and killings, each of which must give the bytes of one process."""
    source = folder / "in"
    requests(source, 24, 24)
    alone = told(drive("--drive", "batch", model, str(source), str(folder / "alone"), "0", "1", "8", "-"))
    expected = (folder / "alone").read_bytes()
    found: dict[str, Any] = {"alone": alone["seconds"]}
    for workers, parallel, killed in (
        (1, 8, None), (2, 3, None), (4, 1, None), (2, 2, "worker"), (2, 2, "machine")
    ):  # fmt: skip
        out = folder / f"out-{workers}-{parallel}-{killed}"
        before = traffic(3)
        driver = drive("--drive", "batch", model, str(source), str(out), str(workers), "1", str(parallel), ADDRESS)
        if killed:
            part = out.with_name(out.name + ".partial")
            while driver.poll() is None and not (part.exists() and part.stat().st_size > 1000):
                time.sleep(0.02)
            if killed == "worker":
                kill_worker(1, b"_Worker")
            else:
                kill_machine(2)
        seconds = told(driver)["seconds"]
        if out.read_bytes() != expected:
            raise SystemExit(f"{out.name} has other bytes")
        name = f"{workers} workers, {parallel} requests each" + (f", a {killed} killed" if killed else "")
        found[name] = {"seconds": seconds, "bytes per request": (traffic(3) - before) / 24}
        print(f"{name}: the same bytes, {seconds:.1f} s", flush=True)
    return found


def speed(model: str, folder: Path) -> dict[str, Any]:
    """One process with two threads, one worker with two, two with one each: requests in a second, once they run."""
    source = folder / "in"
    requests(source, 96, 32)
    found = {}
    for name, workers, threads, parallel in (
        ("process", 0, 2, 16), ("1 worker", 1, 2, 16), ("2 workers", 2, 1, 8), ("process again", 0, 2, 16)
    ):  # fmt: skip
        out = folder / name.replace(" ", "-")
        words = [model, str(source), str(out), str(workers), str(threads), str(parallel), ADDRESS]
        found[name] = told(drive("--drive", "batch", *words))
        print(name, round(found[name]["seconds"], 2), flush=True)
    return found


def main(words: Sequence[str]) -> None:
    if words[:1] == ["--drive"]:
        what, *rest = words[1:]
        if what == "batch":
            workers, threads, parallel = map(int, rest[3:6])
            batch(rest[0], rest[1], rest[2], workers, threads, parallel, rest[6])
        else:
            count, texts, tokens = map(int, rest[1:])
            stages(rest[0], count, texts, tokens)
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=("speed", "stages", "bytes"), action="append")
    options = parser.parse_args(words)
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    model = str(Path(options.model).resolve())
    found: dict[str, Any] = {"machine": machine(), "model": Path(options.model).name}
    with TemporaryDirectory() as folder, network(3):
        for i, cpus in enumerate((0, 2, 2)):
            start_machine(i, cpus)
        for name in options.only or ("speed", "stages", "bytes"):
            if name == "stages":
                found[name] = told(drive("--drive", "stages", model, "2", "8", "32"))
            else:
                found[name] = (speed if name == "speed" else same_bytes)(model, Path(folder))
    text = json.dumps(found, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
