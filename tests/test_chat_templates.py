"""Models that end their turns as real ones do: ChatML's <|im_end|>, Gemma's <end_of_turn>."""

import json
import random

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as FastTokenizer

from engine.generation import answer
from engine.policy import Policy
from sftrl_lib import Experiment, SftrlError
from sftrl_lib.methods.sft import expert_row
from sftrl_lib.policies import load_policy
from sftrl_lib.registry import METHODS
from sftrl_lib.rollout import rollout
from sftrl_lib.runs import Run
from sftrl_lib.tasks import make_task
from worlds.texts import retry

CHATML = """{% if messages[0].role != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
THINKS = """{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}"""
GEMMA = """{{ bos_token }}{% for m in messages %}\
{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles alternate') }}\
{% endif %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}
{{ m.content | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""
KINDS = {  # special tokens (the first one is EOS), template, the token that ends a turn
    "chatml": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], CHATML, "<|im_end|>"),
    "gemma": (
        ["<eos>", "<bos>", "<pad>", "<start_of_turn>", "<end_of_turn>"], GEMMA, "<end_of_turn>",
    ),
}  # fmt: skip
EXP = Experiment(method="sft", steps=1, batch=2)
TASK = make_task(EXP)


def build(kind: str, template: str = "", ends: list[str] | None = None) -> Policy:
    """A random Llama of two layers with a byte-level tokenizer. `ends`: what its generation_config
    stops at, by default EOS and the end of a turn."""
    special, chat, turn_end = KINDS[kind]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    fast = FastTokenizer(
        tokenizer_object=tokenizer, eos_token=special[0], clean_up_tokenization_spaces=False
    )
    if "<bos>" in special:
        fast.bos_token, fast.pad_token = "<bos>", "<pad>"
    fast.chat_template = template or chat
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=2048,
        initializer_range=0.2, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    stops = fast.convert_tokens_to_ids(ends or [special[0], turn_end])
    model.generation_config.eos_token_id = stops if len(stops) > 1 else stops[0]
    return Policy(model, fast)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def token(policy: Policy, word: str) -> int:
    return policy.tokenizer.convert_tokens_to_ids(word)


# --- ends -----------------------------------------------------------------------------------------
def test_an_answer_ends_at_every_end_token(kind):
    special, _, turn_end = KINDS[kind]
    policy = build(kind, ends=special[:1])
    assert policy.end_ids == {token(policy, special[0]), token(policy, turn_end)}
    question = policy.first_turn("Cards: 7")
    free = answer(policy, [question], 12)[0]
    assert len(free) == 12
    for end in {free[3], free[8]}:  # tokens that this random model writes
        policy.end_ids.add(end)
        assert answer(policy, [question], 12)[0] == free[: free.index(end) + 1]
        policy.end_ids.remove(end)


def test_the_model_s_own_ends_may_be_a_list_or_one_or_none(kind):
    special, _, turn_end = KINDS[kind]
    policy = build(kind)
    both = {token(policy, special[0]), token(policy, turn_end)}
    for given in (sorted(both), min(both), None):
        policy.model.generation_config.eos_token_id = given
        assert Policy(policy.model, policy.tokenizer).end_ids == both
    policy.model.generation_config.eos_token_id = [*both, 5]
    assert Policy(policy.model, policy.tokenizer).end_ids == {*both, 5}


def test_sft_teaches_the_end_that_the_template_writes(kind):
    policy = build(kind)
    row = expert_row(EXP, policy, TASK, 0)
    answer = [label for label in row["labels"] if label != -100]
    assert answer[-1] == token(policy, KINDS[kind][2]) == policy.end_id
    item = TASK.item("train", EXP.seed, 0)
    expert = TASK.expert(item, random.Random("expert/0/0"))
    turns = [("user", TASK.prompt(item)), ("assistant", expert)]
    assert rendered(policy, turns, False)[: len(row["input_ids"])] == row["input_ids"]
    assert policy.decode(answer) == expert


def test_a_model_that_learned_an_answer_stops_after_it(kind, tmp_path):
    exp = EXP.replace(batch=8, steps=25, lr=3e-2, warmup=0.0)
    policy = build(kind)

    class OneAnswer(type(TASK)):
        def expert(self, item, rng):
            return "7+7"

    with Run.open(exp, tmp_path) as run:
        METHODS["sft"].train(exp, policy, OneAnswer(), run, progress=False)
    question = policy.first_turn(TASK.prompt(TASK.item("id_unseen", 0, 0)))
    assert answer(policy, [question], 12)[0] == [*policy._ids("7+7"), policy.end_id]


# --- several turns --------------------------------------------------------------------------------
def rendered(policy: Policy, turns: list[tuple[str, str]], cue: bool = True) -> list[int]:
    said = [{"role": role, "content": text} for role, text in turns]
    text = policy.tokenizer.apply_chat_template(said, add_generation_prompt=cue, tokenize=False)
    return policy._ids(text)


@pytest.mark.parametrize("ending", ["turn", "cut off", "eos"])
def test_a_conversation_is_spelled_as_the_template_renders_it(kind, ending, monkeypatch):
    policy = build(kind)
    eos = token(policy, KINDS[kind][0][0])
    ends = {"turn": [policy.end_id], "cut off": [], "eos": [eos]}[ending]
    asked = []

    class Told:
        """What the model has read, all of it, before each answer."""

        def __init__(self, policy, prompts, pictures):
            self.whole, self.processed = list(prompts[0]), [0]

        def answer(self, ids, said, *_):
            self.whole += said[0]
            asked.append(list(self.whole))
            new = policy._ids(f"try {len(asked)}") + ends
            self.whole += new
            return [new]

    monkeypatch.setattr("sftrl_lib.rollout.Conversations", Told)
    (episode,) = rollout(policy, TASK, [TASK.item("train", 0, 0)], tries=3)
    turns = [("user", TASK.prompt(episode.item))]
    for number, turn in enumerate(episode.turns, 1):
        expected = rendered(policy, turns)
        seen = asked[number - 1]
        if ending == "eos":  # what the model wrote stays, and the template's end follows it
            assert seen.count(eos) == number - 1
            seen = [i for i in seen if i != eos]
        assert seen == expected
        assert turn.text == f"try {number}"
        turns += [("assistant", turn.text), ("user", retry(turn.verdict.message))]


def test_a_template_without_an_end_of_its_own_gets_the_tokenizers():
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
    policy = build("chatml", template)
    assert policy.end_id == policy.tokenizer.eos_token_id
    turns = policy.tokenizer.decode(
        policy.first_turn("a") + policy.turn_end + policy.next_turn("b")
    )
    assert turns == "user: a\nassistant: <|endoftext|>\nuser: b\nassistant: "


def test_a_turn_that_ends_where_the_next_one_starts():
    """As GLM's: no end is written, and <|user|> stops the answer."""
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endfor %}<|im_start|>"
    )
    policy = build("chatml", template, ends=["<|im_start|>"])
    assert policy.turn_end == [token(policy, "<|im_start|>")]
    spelled = policy.first_turn("a") + policy._ids("assistant\nb") + policy.turn_end
    turns = [("user", "a"), ("assistant", "b"), ("user", "c")]
    assert spelled + policy.next_turn("c") == rendered(policy, turns)


def test_a_template_that_refuses_a_second_turn_is_refused():
    template = "{{ raise_exception('one turn only') if messages[1:] }}{{ messages[0].content }}"
    with pytest.raises(SftrlError, match="another question .one turn only.; use another model"):
        build("chatml", template)


# --- switches of the template ---------------------------------------------------------------------
def test_thinking_is_off_unless_it_is_asked_for(tmp_path):
    build("chatml", CHATML + THINKS).save(tmp_path)

    def cue(kwargs):
        exp = Experiment(model=str(tmp_path), precision="full", chat_template_kwargs=kwargs)
        policy = load_policy(exp)
        first, again = policy.first_turn("a"), policy.next_turn("b")
        return ["<think>\n\n</think>" in policy.tokenizer.decode(ids) for ids in (first, again)]

    assert cue("") == [True, True]
    assert cue('{"enable_thinking": true}') == [False, False]


@pytest.mark.parametrize("given", ["{", "[]", "3", "enable_thinking"])
def test_settings_of_a_template_are_a_json_object(given):
    with pytest.raises(SftrlError, match="chat_template_kwargs is .* must be a JSON object such"):
        Experiment(chat_template_kwargs=given)


def test_settings_of_a_template_decide_the_result():
    assert Experiment(chat_template_kwargs="{}").hash != Experiment().hash


# --- what others load -----------------------------------------------------------------------------
def test_saved_weights_stop_elsewhere_too(kind, tmp_path):
    policy = build(kind, ends=KINDS[kind][0][:1])
    policy.save(tmp_path)
    stops = json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"]
    assert set(stops) == policy.end_ids
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)  # head and embedding are one
    ids = torch.tensor([policy.first_turn("a")])
    with torch.no_grad():
        torch.testing.assert_close(
            theirs(ids).logits, policy.model(ids).logits, rtol=0.01, atol=0.02
        )
