"""lm-evaluation-harness: a toy task with multiple choice, in this process and through the server; ``nox -s drop-in``
runs this."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.models.gguf import GGUFLM
from lm_eval.tasks import TaskManager

from llamaq import LLM
from llamaq.integrations.lm_eval import LlamaqLM
from published import smollm2
from served import served

CHOICES = [
    ("The capital of France is", [" Paris", " London", " Rome"]),
    ("Two and two are", [" four", " five", " seventeen"]),
    ("The opposite of hot is", [" cold", " warm", " blue"]),
    ("A dog says", [" woof", " meow", " moo"]),
]
TASK = """\
task: toy
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}}"
doc_to_target: 0
doc_to_choice: "{{choices}}"
target_delimiter: ""
metric_list: [{metric: acc}]
"""


def asked(kind: str, *arguments: Any) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


PAIRS = [asked("loglikelihood", context, choice) for context, choices in CHOICES for choice in choices]


def test_multiple_choice_equals_the_way_through_http(smol: LLM) -> None:
    here = LlamaqLM(smol).loglikelihood(PAIRS, disable_tqdm=True)
    with served("--model", smollm2(), "--ctx-size", 512, "--threads", 2) as server:
        there = GGUFLM(server.url).loglikelihood(PAIRS, disable_tqdm=True)
    assert [greedy for _, greedy in here] == [greedy for _, greedy in there]
    assert [round(sum, 9) for sum, _ in here] == [round(sum, 9) for sum, _ in there]
    sums = [sum for sum, _ in here]
    assert [sums[i] == max(sums[i : i + 3]) for i in range(0, len(sums), 3)].count(True) >= 3


def test_a_likelihood_is_that_of_score(smol: LLM) -> None:
    model = LlamaqLM(smol, together=2)
    (found,) = model.loglikelihood([asked("loglikelihood", "", " Paris")], disable_tqdm=True)
    assert found[0] == smol.score(smol.tokenize(" Paris"), prompt=[model.prefix_token_id]).sum
    # A context that is too long loses its beginning.
    long = "Once upon a time. " * 300
    (cut,) = model.loglikelihood([asked("loglikelihood", long, " Then")], disable_tqdm=True)
    ids, then = smol.tokenize(long.rstrip()), smol.tokenize("  Then")
    assert cut[0] == smol.score(then, prompt=ids[-(smol.n_ctx - len(then)) :]).sum
    rolled = model.loglikelihood_rolling([asked("loglikelihood_rolling", "Paris is a city.")])
    assert rolled == [smol.score(smol.tokenize("Paris is a city."), prompt=[model.prefix_token_id]).sum]
    assert len(model.loglikelihood_rolling([asked("loglikelihood_rolling", long)])) == 1


def test_answers(smol: LLM) -> None:
    model = LlamaqLM(smol)
    given = {"until": ["\n", "."], "max_gen_toks": 12, "do_sample": False}
    (text,) = model.generate_until([asked("generate_until", "The capital of France is", given)])
    assert "Paris" in text
    assert "." not in text
    chat = model.apply_chat_template([{"role": "user", "content": "Hi"}])
    assert chat.endswith("<|im_start|>assistant\n")
    assert model.tok_encode(chat) == smol.tokenize(chat)


def test_a_task(smol: LLM, tmp_path: Path) -> None:
    rows = [json.dumps({"question": question, "choices": choices}) for question, choices in CHOICES]
    (tmp_path / "toy.jsonl").write_text("\n".join(rows))
    (tmp_path / "toy.yaml").write_text(TASK % (tmp_path / "toy.jsonl"))
    tasks = TaskManager(include_path=str(tmp_path), include_defaults=False)
    model, asked = LlamaqLM(smol), {"tasks": ["toy"], "task_manager": tasks, "bootstrap_iters": 0}
    found = lm_eval.simple_evaluate(model=model, **asked)
    assert found["results"]["toy"]["acc,none"] >= 0.75
    chats = lm_eval.simple_evaluate(model=model, **asked, apply_chat_template=True)
    assert "<|im_start|>" in chats["samples"]["toy"][0]["arguments"][0][0]
    assert model.chat_template(True) == smol.metadata["tokenizer.chat_template"]
