"""A file of requests has the same answers, byte for byte, however it is worked off, and however often it is stopped."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from asgi import TEMPLATE, Client
from batch_files import BAD, job_of, line_of, requests_of, write_lines
from command import Command
from llamaq import LLM, LlamaqError
from llamaq.batch import BatchJob, Request, run_batch
from llamaq.batch.output import Output
from llamaq.batch.requests import MOST_LINE, read_requests, seed_of
from llamaq.batch.sameness import same_each_time
from llamaq.engine.adapters import AdapterFile
from llamaq.server import Settings, app
from terminal import command, environment
from tiny_vision import copy_of
from vision_cases import picture
from waiting import wait_until


@pytest.fixture(scope="module")
def answered(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """An input with every kind of line, and the output of one request after the other on one thread."""
    folder = tmp_path_factory.mktemp("batch")
    source = write_lines(folder / "in.jsonl", [*requests_of(4), *BAD])
    done = run_batch(job_of(stories, parallel=1, threads=1), source, folder / "out.jsonl")
    assert (done.total, done.kept, done.failed, done.failed_lines) == (23, 0, 7, (17, 18, 19, 20, 21))
    return source, (folder / "out.jsonl").read_bytes()


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capfdbinary, monkeypatch)


def lines_of(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw.splitlines()]


@pytest.mark.parametrize(("parallel", "threads"), [(2, 1), (7, 2), (64, 1)])
def test_the_output_does_not_depend_on_how_many_run_at_once(
    answered: tuple[Path, bytes], stories: Path, tmp_path: Path, parallel: int, threads: int
) -> None:
    source, expected = answered
    run_batch(job_of(stories, parallel=parallel, threads=threads), source, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_answers_are_those_of_the_server(answered: tuple[Path, bytes], stories: Path) -> None:
    source, raw = answered
    with LLM.load(stories, n_ctx=128, threads=2) as llm:
        client = Client(app(llm, Settings(names=("*",), template=TEMPLATE)))
        requests = map(json.loads, source.read_text().splitlines()[:16])
        for asked, line in zip(requests, lines_of(raw)[:16], strict=True):
            body, response = asked["body"], line["response"]
            if "seed" not in body and "input" not in body:
                body = {**body, "seed": seed_of(0, asked["custom_id"])}
            reply = client.post(asked["url"], body)
            assert line["custom_id"] == asked["custom_id"]
            assert response["status_code"] == reply.status == 200
            assert response["body"] == same_each_time(reply.json, line["id"])


def test_the_place_of_a_request_does_not_matter(answered: tuple[Path, bytes], stories: Path, tmp_path: Path) -> None:
    _, expected = answered
    source = write_lines(tmp_path / "in", requests_of(4)[::-1])
    run_batch(job_of(stories), source, tmp_path / "out")
    assert (tmp_path / "out").read_bytes().splitlines()[::-1] == expected.splitlines()[:16]


def test_lines_that_are_no_requests_are_told_by_number(answered: tuple[Path, bytes]) -> None:
    bad = lines_of(answered[1])[16:]
    assert [line["error"]["line"] for line in bad] == [17, 18, 19, 20, 21, 22, 23]
    assert all(line["response"] is None and line["custom_id"] is None for line in bad)
    codes = [line["error"]["code"] for line in bad]
    assert codes == [
        "invalid_json_line", "invalid_json_line", "duplicate_custom_id", "missing_custom_id", "invalid_method",
        "invalid_url", "invalid_body",
    ]  # fmt: skip
    assert "line 18 of in.jsonl: it has 'custom_id' twice" in bad[1]["error"]["message"]


def test_what_a_request_has_wrong_is_an_answer(stories: Path, tmp_path: Path) -> None:
    wrong = [
        line_of("a", "completions", prompt="x " * 500),
        line_of("b", "chat/completions", messages=[], temperature="hot"),
        line_of("c", "completions", prompt="x", stream=True),
    ]
    done = run_batch(job_of(stories), write_lines(tmp_path / "in", wrong), tmp_path / "out")
    found = lines_of((tmp_path / "out").read_bytes())
    assert (done.failed, done.failed_lines) == (3, (1, 2, 3))
    assert [line["response"]["status_code"] for line in found] == [400, 400, 400]
    assert found[0]["response"]["body"]["error"]["code"] == "context_length_exceeded"
    assert "stream" in found[2]["response"]["body"]["error"]["message"]


class Stop(Exception):
    """The run is over before its end."""


@pytest.mark.parametrize("torn", [b"", b'{"id": "batch_req_'])
def test_a_run_that_was_stopped_goes_on(
    answered: tuple[Path, bytes], stories: Path, tmp_path: Path, torn: bytes
) -> None:
    source, expected = answered
    job, out, begun = job_of(stories), tmp_path / "out", tmp_path / "out.partial"
    seen: list[int] = []

    def first_five(requests: Iterator[Request], done: Any) -> None:
        with job.answerer() as answerer:
            answerer.run((next(requests) for _ in range(5)), done)
        raise Stop

    with pytest.raises(Stop):
        run_batch(job, source, out, first_five)
    assert not out.exists()
    begun.write_bytes(begun.read_bytes() + torn)

    def the_rest(requests: Iterator[Request], done: Any) -> None:
        asked = list(requests)
        seen.extend(request.number for request in asked)
        with job.answerer() as answerer:
            answerer.run(asked[::-1], done)

    done = run_batch(job, source, out, the_rest)
    assert (done.kept, seen) == (5, list(range(6, 24)))
    assert out.read_bytes() == expected
    assert not begun.exists()


def test_an_output_that_breaks_off_is_gone_on_with(answered: tuple[Path, bytes], stories: Path, tmp_path: Path) -> None:
    source, expected = answered
    out = tmp_path / "out"
    out.write_bytes(expected[: len(expected) * 2 // 3])
    assert not expected[: len(expected) * 2 // 3].endswith(b"\n")
    done = run_batch(job_of(stories), source, out)
    assert done.kept == out.read_bytes()[: len(expected) * 2 // 3].count(b"\n")
    assert out.read_bytes() == expected


def has_more(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size > size


@pytest.mark.subprocess
def test_a_killed_run_goes_on(stories: Path, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in", requests_of(40))
    options = ("-m", stories, "-c", 128, "-t", 1, "--chat-template", TEMPLATE)
    whole, out = tmp_path / "whole", tmp_path / "out"
    subprocess.run(command("batch", source, whole, *options, "-np", 3), env=environment(), check=True)
    for least in (1, 40_000):
        process = subprocess.Popen(command("batch", source, out, *options), env=environment())
        wait_until(partial(has_more, tmp_path / "out.partial", least))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists()
    subprocess.run(command("batch", source, out, *options), env=environment(), check=True)
    assert out.read_bytes() == whole.read_bytes()


def test_answers_of_another_batch_are_not_overwritten(
    answered: tuple[Path, bytes], stories: Path, tmp_path: Path
) -> None:
    source, expected = answered
    out = tmp_path / "out"
    for content in (b"a letter to mother\n", expected):
        out.write_bytes(content)
        with pytest.raises(LlamaqError, match="expected answers to this input"):
            run_batch(job_of(stories, seed=1), source, out)
        assert out.read_bytes() == content
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(LlamaqError, match="expected another file than the input"):
        run_batch(job_of(stories), source, source)


def test_failures_of_the_machine_are_asked_again(tmp_path: Path) -> None:
    def line(id: str, status: int) -> str:
        return json.dumps({"id": id, "custom_id": id, "response": {"status_code": status, "body": {}}, "error": None})

    def stopped() -> Output:
        return Output(tmp_path / "out", ["a", "b", "c"])

    with stopped() as output:
        output.add("a", line("a", 500))
        output.add("b", line("b", 400))
        assert (output.done, output.failed) == (2, {"a", "b"})
    with stopped() as output:
        assert (output.has("a"), output.has("b"), output.failed) == (False, True, {"b"})
        output.add("c", line("c", 200))
        output.add("a", line("a", 200))
        output.finish()
        assert output.failed == {"b"}
    assert (tmp_path / "out").read_text().splitlines() == [line("a", 200), line("b", 400), line("c", 200)]


def test_a_request_is_known_by_all_that_its_answer_depends_on(stories: Path, tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "in", [line_of("a", "completions", prompt="x"), line_of("b", "embeddings", input="x")]
    )

    def ids(seed: int = 0, **options: Any) -> list[str]:
        job = job_of(stories, seed=seed, **options)
        return [request.id for request in read_requests(source, job.identity, job.seed)]

    assert len({*ids(), *ids(seed=1)}) == 4
    assert ids() == ids(parallel=3, threads=1)
    seeds = [request.body.get("seed") for request in read_requests(source, "", 7)]
    assert seeds == [seed_of(7, "a"), None]
    assert seed_of(7, "a") not in (seed_of(7, "b"), seed_of(8, "a"))


def test_a_line_without_an_end_is_not_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b'"' + b"x" * (2 * MOST_LINE) + b'"\n' + line_of("a", "embeddings", input="x").encode())
    first, second = read_requests(path, "", 0)
    assert (first.code, second.custom_id, second.number) == ("line_too_long", "a", 2)


def test_what_runs_differ_in_is_taken_out() -> None:
    calls = [{"id": "call_0123456789abcdef", "type": "function"}, {"id": "abcDEF123", "type": "function"}]
    body = {
        "id": "chatcmpl-77", "created": 5, "timings": {}, "system_fingerprint": "x",
        "usage": {"total_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}},
        "choices": [{"message": {"content": "id", "tool_calls": calls}}],
    }  # fmt: skip
    found = same_each_time(body, "batch_req_0123456789abcdef01234567")
    assert found == {
        "id": "chatcmpl-01", "created": 0, "usage": {"total_tokens": 3},
        "choices": [{"message": {"content": "id", "tool_calls": [
            {"id": "call_0123456789abcdef", "type": "function"}, {"id": "101234567", "type": "function"}]}}],
    }  # fmt: skip


def test_the_command(answered: tuple[Path, bytes], stories: Path, tmp_path: Path, run: Command) -> None:
    source, _ = answered
    out = tmp_path / "out"
    options = ("-m", stories, "-c", 128, "-t", 1, "--chat-template", TEMPLATE)
    done = run("batch", source, out, *options)
    assert (done.code, done.out) == (1, b"")
    assert f"llamaq: {out}: 23 requests answered; 7 with an error: lines 17, 18, 19, 20, 21, ... of" in done.err
    assert run("batch", source, out, *options).err.startswith(f"llamaq: {out}: 23 requests answered, 23 of them")
    clean = write_lines(tmp_path / "in", requests_of(1))
    assert run("batch", clean, tmp_path / "clean", *options).code == 0
    assert run("batch", tmp_path / "none", tmp_path / "clean", *options).code == 1
    assert "each request says how to sample" in run("batch", clean, out, *options, "--temp", 1).err


def asking(number: int) -> str:
    """A request that shows a picture."""
    out = BytesIO()
    Image.fromarray(picture(40, 30, number)).save(out, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": f"a{number}"}]
    said = [{"role": "user", "content": parts}]
    return line_of(f"see-{number}", "chat/completions", messages=said, max_tokens=5, logprobs=True)


def test_requests_with_pictures(shared: Callable[[str], Path], tmp_path: Path, run: Command) -> None:
    """The same bytes however many run at once; other pictures have other answers, and a batch with another projector
    is another batch."""
    model, mmproj = (shared(f"tiny-models/gemma3v{end}.gguf") for end in ("", "-mmproj"))
    source = write_lines(tmp_path / "in", [asking(number) for number in range(3)])
    options = ("-m", model, "--mmproj", mmproj, "-t", 1, "--chat-template", "gemma", "-c", 128)
    made = []
    for parallel in (1, 4):
        out = tmp_path / f"out-{parallel}"
        assert run("batch", source, out, *options, "-np", parallel).code == 0
        made.append(out.read_bytes())
    assert made[0] == made[1]
    probabilities = {json.dumps(line["response"]["body"]["choices"][0]["logprobs"]) for line in lines_of(made[0])}
    assert len(probabilities) == 3
    blind = run("batch", source, tmp_path / "blind", *options[:2], *options[4:])
    assert blind.code == 1
    assert "with an error: lines 1, 2, 3 of" in blind.err
    other = copy_of(mmproj, tmp_path / "other.gguf", {"general.name": "another"})
    same = tmp_path / mmproj.name  # as on another machine
    same.write_bytes(mmproj.read_bytes())
    jobs = [job_of(model, load={"mmproj": path}) for path in (mmproj, str(same), other, None)]
    assert len({job.identity for job in jobs}) == 3
    assert "each request has its own pictures" in run("batch", source, tmp_path / "x", *options, "--image", "a").err


def test_what_changes_no_bit_is_no_other_batch(stories: Path, tmp_path: Path) -> None:
    """Adapters are files with scales, wherever they lie."""
    for name in ("a.gguf", "b.gguf", "there/a.gguf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name[-6:].encode())
    a, there = tmp_path / "a.gguf", tmp_path / "there" / "a.gguf"
    plain: dict[str, Any] = {"n_ctx": 64}
    same: list[dict[str, Any]] = [
        {"speculation": False}, {"draft": "x"}, {"cache_dir": tmp_path, "cache_limit": 5}, {"threads": 3},
        {"adapters": ()},
    ]  # fmt: skip
    assert {BatchJob(stories, {**plain, **more}).identity for more in same} == {BatchJob(stories, plain).identity}
    adapted: list[Any] = [a, there, [a], {a: 1.0}, AdapterFile(a)]
    assert len({BatchJob(stories, {**plain, "adapters": each}).identity for each in adapted}) == 1
    others: list[Any] = [(), a, {a: 0.5}, tmp_path / "b.gguf", [a, tmp_path / "b.gguf"], AdapterFile(a, layers=(1, 2))]
    assert len({BatchJob(stories, {**plain, "adapters": each}).identity for each in others}) == 6
