"""lm-eval against BASE_URL: log-likelihoods through the server's own tokenizer, and generation on both routes."""

import json
import sys
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager

BASE = sys.argv[1]
HERE = Path.cwd() / "tasks"
HERE.mkdir()
CHOICES = ["Goodbye", "Hello", "Never"]
rows = [{"question": f"What does the script say, {i}?"} for i in range(4)]
(HERE / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
COMMON = {
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": str(HERE / "rows.jsonl")}},
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "target_delimiter": "",
}
TASKS = {
    "tiny_choice": {
        "output_type": "multiple_choice",
        "doc_to_choice": CHOICES,
        "doc_to_target": 1,
        "metric_list": [{"metric": "acc"}],
    },
    "tiny_text": {
        "output_type": "generate_until",
        "doc_to_target": "Hello from the script.",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 64, "temperature": 0},
        "metric_list": [{"metric": "exact_match"}],
    },
}
# A text completion of the scripted model is an answer where the prompt ends with the beginning of one.
TASKS["tiny_turn"] = {**TASKS["tiny_text"], "doc_to_text": "{{question}}<|im_start|>assistant\n"}
for name, task in TASKS.items():
    (HERE / f"{name}.yaml").write_text(json.dumps({"task": name, **COMMON, **task}))  # YAML takes JSON


def score(model, route, task, metric, **more):
    arguments = {
        "model": "scripted",
        "base_url": f"{BASE}/{route}",
        "num_concurrent": 2,
        "max_retries": 1,
        **more,
    }
    told = lm_eval.simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=[task],
        task_manager=TaskManager(include_path=str(HERE), include_defaults=False),
        apply_chat_template=model == "local-chat-completions",
        bootstrap_iters=0,
    )
    return told["results"][task][f"{metric},none"]


remote = {"tokenizer_backend": "remote"}
assert score("local-completions", "completions", "tiny_choice", "acc", **remote) == 1.0
assert score("local-completions", "completions", "tiny_turn", "exact_match", **remote) == 1.0
plain = {"tokenizer_backend": None, "tokenized_requests": False}
assert score("local-chat-completions", "chat/completions", "tiny_text", "exact_match", **plain) == 1.0
print("ok")
