"""The same prompts to the base and to what was trained, side by side.

Asked on stdin: `{"config": file, "output": folder, "kind": "adapter" | "model", "prompts": […], "chat": true, …}`. The
base is loaded once; an adapter is switched off for the base's answers. A whole model is loaded after the base is gone.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from .answers import answer, read_request
from .failures import explain


def main(_arguments: list[str]) -> int:
    """Answer both models' texts; `{"problem": reason, "detail": …}` where there are none."""
    asked = read_request()
    try:
        answer(sample(asked))
    except Exception as error:
        failure = explain(error)
        answer({"problem": failure.reason, "detail": failure.detail[:1000]})
    return 0


def sample(asked: dict[str, Any]) -> dict[str, Any]:
    """For each prompt: how many tokens it has, and what base and tuned say."""
    import torch

    from . import models
    from .yaml12 import load

    config = load(Path(asked["config"]).read_text(encoding="utf-8"))
    gpu = config["resources"]["gpus"] > 0 and torch.cuda.is_available()
    if not gpu:
        config["resources"]["gpus"] = 0
    device = torch.device("cuda" if gpu else "cpu")
    tokenizer = models.load_tokenizer({"name": asked["output"]})
    chat = asked["chat"] and tokenizer.chat_template is not None
    inputs = [_render(tokenizer, prompt, chat=chat).to(device) for prompt in asked["prompts"]]
    base = _load(config, device)
    if asked["kind"] == "adapter":
        from peft import PeftModel

        tuned = PeftModel.from_pretrained(base, asked["output"]).eval()
        with tuned.disable_adapter():
            before = [_generate(tuned, tokenizer, one, asked) for one in inputs]
    else:
        before = [_generate(base, tokenizer, one, asked) for one in inputs]
        del base
        gc.collect()
        whole = {
            **config,
            "quantization": None,
            "model": {**config["model"], "name": asked["output"], "revision": None},
        }
        tuned = _load(whole, device)
    after = [_generate(tuned, tokenizer, one, asked) for one in inputs]
    return {
        "chat": chat,
        "device": device.type,
        "answers": [
            {"prompt_tokens": int(one.shape[1]), "base": b, "tuned": t}
            for one, b, t in zip(inputs, before, after, strict=True)
        ],
    }


def _load(config: dict[str, Any], device: Any) -> Any:
    from . import models

    model = models.load_causal(config)
    # A quantized model lies where it was loaded and can't be moved.
    return (model if config.get("quantization") else model.to(device)).eval()


def _render(tokenizer: Any, prompt: str, *, chat: bool) -> Any:
    """The prompt's token ids, as one row: as a user's turn, or as it stands."""
    if not chat:
        return tokenizer(prompt, return_tensors="pt")["input_ids"]
    turns = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)[
        "input_ids"
    ]


def _generate(model: Any, tokenizer: Any, ids: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """What the model says, and whether it ended by itself."""
    import torch
    from transformers import GenerationConfig

    ends = _ends(model, tokenizer)
    options: dict[str, Any] = {"do_sample": False}
    if asked["temperature"] > 0:
        # All of the distribution: what a model's own file says of top_k and top_p would hide what was learned.
        options = {"do_sample": True, "temperature": asked["temperature"], "top_k": 0, "top_p": 1.0}
    # The same random numbers for both models.
    torch.manual_seed(asked["seed"])
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=GenerationConfig(
                max_new_tokens=asked["max_new_tokens"],
                eos_token_id=ends or None,
                pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends or [0])[0],
                **options,
            ),
        )
    new = out[0, ids.shape[1] :].tolist()
    ended = bool(new) and new[-1] in ends
    text = tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return {"text": text, "tokens": len(new) - ended, "ended": ended}


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: the tokenizer's, and those that the model's own file names."""
    own = model.generation_config.eos_token_id
    ends = [] if own is None else own if isinstance(own, list) else [own]
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ends:
        ends = [*ends, tokenizer.eos_token_id]
    return ends
