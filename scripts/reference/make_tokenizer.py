"""Makes the small tokenizers of the tests and the ids that transformers gives for them.

    python scripts/reference/make_tokenizer.py [FOLDER]     (default: tests/golden)

Writes `tokenizer/` (XLM-R Unigram with the real nmt_nfkc charsmap), `tokenizer_bert/` and
`tokenizer_clip/`, each as transformers saves it, with `expected.json` beside. Versions as in
requirements.txt: transformers 5.23.0, tokenizers 0.23.3, sentencepiece 0.2.3, protobuf 7.36.2.
"""

import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, normalizers, trainers, Regex
from transformers import BertTokenizer, CLIPTokenizer, XLMRobertaTokenizer

PHOTOS = {
    "en": """a photo of a cat|a photo of two dogs playing in the snow|the old lighthouse stands on a cliff above the sea
a child is flying a kite on the beach|three bicycles lean against a brick wall|a bowl of noodles with egg and spring onions
the train leaves the station at half past seven|an orange bus drives through the rain|a woman reads a newspaper in the park
a black and white drawing of a horse|there are many boats in the harbour this morning|people are walking across the bridge""",
    "zh": """一张猫的照片|两只狗在雪地里玩耍|一个孩子在海边放风筝|桌子上有一碗面条和一杯茶|火车七点半离开车站|古老的灯塔站在海边的悬崖上
一位女士在公园里看报纸|很多人正在过桥|今天早上港口里有很多船|一幅黑白的马的画|一輛橙色的公車在雨中行駛|三輛自行車靠在磚牆上""",
    "ja": """猫の写真|二匹の犬が雪の中で遊んでいます|子供が海辺で凧を揚げている|駅を出発する電車|古い灯台が崖の上に立っている
テーブルの上にラーメンとお茶があります|女性が公園で新聞を読んでいる|橋を渡る人々|今朝は港にたくさんの船がいます|白黒の馬の絵""",
    "ko": """고양이 사진|눈밭에서 노는 개 두 마리|아이가 바닷가에서 연을 날리고 있다|기차가 역을 떠난다|오래된 등대가 절벽 위에 서 있다
공원에서 신문을 읽는 여자|다리를 건너는 사람들|오늘 아침 항구에는 배가 많다|흑백으로 그린 말 그림""",
    "ru": """фотография кота|две собаки играют в снегу|ребёнок запускает воздушного змея на пляже|старый маяк стоит на скале над морем
поезд отправляется в половине восьмого|женщина читает газету в парке|люди идут через мост|в гавани сегодня утром много лодок""",
    "ar": """صورة قطة|كلبان يلعبان في الثلج|طفل يطير طائرة ورقية على الشاطئ|المنارة القديمة تقف على الجرف فوق البحر
امرأة تقرأ الجريدة في الحديقة|الناس يعبرون الجسر|هناك قوارب كثيرة في الميناء هذا الصباح""",
    "hi": """एक बिल्ली की तस्वीर|दो कुत्ते बर्फ में खेल रहे हैं|एक बच्चा समुद्र तट पर पतंग उड़ा रहा है|पुराना प्रकाशस्तंभ चट्टान पर खड़ा है
एक महिला पार्क में अखबार पढ़ रही है|लोग पुल पार कर रहे हैं""",
    "de": """ein Foto von einer Katze|zwei Hunde spielen im Schnee|ein Kind lässt am Strand einen Drachen steigen|der alte Leuchtturm steht über dem Meer
eine Frau liest im Park die Zeitung|viele Boote liegen heute früh im Hafen|Menschen gehen über die große Brücke""",
    "fr": """une photo d'un chat|deux chiens jouent dans la neige|un enfant fait voler un cerf-volant sur la plage|le vieux phare se dresse sur la falaise
une femme lit le journal dans le parc|il y a beaucoup de bateaux au port ce matin|des gens traversent le pont à vélo""",
    "th": """ภาพถ่ายของแมว|สุนัขสองตัวเล่นในหิมะ|เด็กกำลังเล่นว่าวที่ชายหาด""",
    "other": """😀 a smile|🐱 cat and 🐶 dog|👍 very good 👍|price: 12.50 € or $13|call 0123-456789, please!|50% off (today only)|x² + y² = z²|A.B.C. & co.""",
}

SENTENCES = [s for block in PHOTOS.values() for line in block.splitlines() for s in line.split("|")]
ANGLED = "<s> </s> <pad> <unk> <mask>".split()


def hostile_texts():
    """Texts at which a tokenizer goes wrong: each line of TX1-TX10 and of the Unicode corners."""
    texts = ["", " ", "   ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u200d", "\u202e", "\u2066", "\x00", "\x7f", "\x85"]
    texts += ["\ufeffa cat", "a\u200bcat", "a\u200dcat", "\u202ecat\u202c dog", "a\x00cat", "\x01\x02 cat \x1f", "\u0085a", "a\u0085b", "a\u2028b\u2029c"]
    texts += ["a  cat", "  a cat", "a cat  ", "a \t cat", "a\ncat\n", "a\u00a0cat", "a\u3000cat", "　一张猫　", " \u00a0 \u3000 cat", "a\u2003cat\u2009dog", "a\x0bcat\x0cdog"]
    texts += ["▁", "▁▁", "▁▁▁ ▁", "a▁cat", "▁a photo", "a ▁ cat", "a▁ cat", "▁" * 100, "\u2581\u2581cat\u2581"]
    for token in ANGLED:
        texts += [token, f" {token} ", f"a{token}b", f"a {token} b", f"a  {token}  cat", f"{token}{token}", token.upper(), token.replace("<", "＜").replace(">", "＞")]
    texts += ["a photo <mask> of", "a photo   <mask>", "<mask> cat", "<mask>\u3000cat", "cat\u00a0<mask>", "<mask", "mask>", "< mask >", "<<mask>>", "<s><pad></s>", "<s>a</s></s>b</s>", "a\u0301<mask>", "<mask>\u0301", "<ma\u0301sk>", "<\u200bmask>", "<mask\u00ad>", "＜mask＞ cat", "cat ＜ｍａｓｋ＞", "\u200b<mask>\u200b"]
    texts += ["ｆｕｌｌ ｗｉｄｔｈ　ｃａｔ", "１２３４５", "ﾈｺの写真", "ﾊﾟﾋﾟﾌﾟ", "カ\u3099キ\u3099", "が か\u3099", "①②③", "ﬁ ﬂ ﬃ", "㎏ ㎡ ㍿", "½ ¼ ¾", "x² ₂", "ǆ ǅ", "Å Å A\u030a", "Ω Ω", "ſs ẛ̣", "㋿", "🅰🅱", "𝒞𝒶𝓉", "𝟏𝟐𝟑", "ℝ ℂ ℕ", "™ ® ©", "… ‥ ．"]
    texts += ["é e\u0301", "ﾞ ﾟ", "ñ n\u0303", "ü u\u0308 ṻ", "a\u0323\u0307 a\u0307\u0323", "ế e\u0302\u0301", "ё е\u0308 й и\u0306", "한국어 " + "\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165", "\u1100\u1161 가", "\u1100\u1161\u11a8 각", "ㄱㅏ ㅎㅏㄴ", "\u1100", "\u1161", "\ua960\ud7b0", "क़ क\u093c", "दो कुत्ते", "क्षि", "\u0915\u094d\u200d\u0937", "\u0628\u064e\u0651", "لا ﻻ", "\ufe8d\ufedf", "ภาพ นํ้า น้ำ", "\u0e33 \u0eb3"]
    texts += ["\ufdfa", "\ufdfa\ufdfa\ufdfa", "a\ufdfab", "\ufdfa" * 60, "\ufdfb \ufdf2", "e" + "\u0301" * 30, "\u0301" * 50, "a\u0300\u0301\u0302\u0303\u0304 b", "Z\u0351\u036b\u0343A\u0317L\u0348G\u0321O\u0321", "\u0300a", " \u0301", "\u3099", "\u20dd a\u20dd"]
    texts += ["👨\u200d👩\u200d👧\u200d👦", "👨\u200d👩\u200d👧\u200d👦" * 12, "👍🏽", "🇩🇪🇫🇷🇯", "❤️ ❤", "🏳️\u200d🌈", "1️⃣2️⃣", "😀😀😀", "\U0001f9d1\U0001f3ff\u200d\U0001f680", "☃ snow ☃☃", "\u2620\ufe0f\ufe0e", "a\ufe0fb"]
    texts += ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a" * 500, "ab" * 200, "photo" * 40, "的" * 120, "猫" * 90 + " " + "犬" * 90, "ㅋ" * 80, "ha " * 120, "дом" * 50, "\u00ad" * 10, "co\u00adoperate", "\u034f a\u034f", "\U000e0041\U000e007f", "\ue000 \uf8ff", "\U0010ffff", "\ufffd", "\ufffe", "\uffff", "\ud7ff\ue000"]
    texts += ["台灣 台湾 臺灣", "車 车 車", "\uf900 \uf901 豈", "國 国", "発 發 发", "㈱ ㍻ ㌔", "「猫」『犬』", "，。！？：；（）", ",.!?:;()", "“quoted” ‘text’ «x»", "- – — − ‐ ‑", "a/b\\c|d", "http://example.org/?q=cat&x=%20", "user@example.org", "#cat @dog", "{\"a\": [1, 2]}", "E = mc²", "٣٤٥ १२३ ๑๒๓", "ＡＢＣａｂｃ", "İ ı i̇", "ß ẞ SS", "ΑΣ ας", "Ⅳ ⅷ", "ꙮ", "ჰ Ⴠ ᲀ", "ᄒᆞᆫ", "ﷺ‎ﷲ", "\u0600\u06dd", "𓀀𓀁", "𠮷野家", "㐀㐁", "〇", "々", "ー", "ヽヾ", "ｶﾞｷﾞ", "‼ ⁇ ⁉"]
    return texts


def random_texts(count):
    """Mixtures of captions and of characters from every corner, made from a fixed seed."""
    rng = random.Random(20221112)
    blocks = [(0x20, 0x7e), (0xa0, 0x24f), (0x300, 0x36f), (0x370, 0x52f), (0x590, 0x6ff), (0x900, 0x97f), (0xe00, 0xe7f), (0x1100, 0x11ff), (0x1e00, 0x20cf), (0x2100, 0x27bf), (0x3000, 0x30ff), (0x3130, 0x33ff), (0x4e00, 0x4eff), (0xac00, 0xacff), (0xf900, 0xfaff), (0xfb00, 0xffef), (0x1d400, 0x1d7ff), (0x1f300, 0x1f6ff), (0, 0x1f)]
    for _ in range(count):
        parts = []
        for _ in range(rng.randint(1, 6)):
            kind = rng.random()
            if kind < 0.45:
                sentence = rng.choice(SENTENCES)
                start = rng.randrange(len(sentence))
                parts.append(sentence[start:start + rng.randint(1, 12)])
            elif kind < 0.85:
                low, high = rng.choice(blocks)
                parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 5))))
            else:
                parts.append(rng.choice([" ", "  ", "\u3000", "▁", "<mask>", " <mask>", "\u0301", "\u200d", "\ufe0f", "</s>"]))
        yield "".join(parts)


def all_texts():
    texts = SENTENCES + hostile_texts() + list(random_texts(120))
    return list(dict.fromkeys(t for t in texts if not any(0xD800 <= ord(c) <= 0xDFFF for c in t)))


def short_texts():
    return [t for t in all_texts() if len(t) <= 28]


def write_expected(folder, texts, **columns):
    """Ids of each text, one text a line; a second column only where it differs from the first."""
    rows = []
    first, *others = columns
    for text in texts:
        row = {"text": text, first: columns[first](text)["input_ids"]}
        for name in others:
            ids = columns[name](text)["input_ids"]
            if ids != row[first]:
                row[name] = ids
        rows.append(json.dumps(row, separators=(",", ":")))
    (folder / "expected.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")
    print(folder.name, len(rows), "texts", sum(1 for r in rows if any(n in r for n in others)), "differ between the columns")


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def make_xlmr(folder):
    with tempfile.TemporaryDirectory() as work:
        corpus = Path(work, "corpus.txt")
        corpus.write_text("\n".join(SENTENCES * 3), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus), model_prefix=str(Path(work, "spm")), model_type="unigram", vocab_size=1000,
            hard_vocab_limit=False, character_coverage=1.0, normalization_rule_name="nmt_nfkc",
            num_threads=1, minloglevel=2,
        )
        shutil.copyfile(Path(work, "spm.model"), folder / "sentencepiece.bpe.model")
        alone = Path(work, "alone")
        alone.mkdir()
        shutil.copyfile(folder / "sentencepiece.bpe.model", alone / "sentencepiece.bpe.model")
        from_model = XLMRobertaTokenizer.from_pretrained(alone)
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
    special = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special | {"mask_token": mask}, indent=2) + "\n")
    # What a user has who saves the tokenizer of an AltCLIP folder with transformers 5.
    XLMRobertaTokenizer.from_pretrained(folder, model_max_length=77).save_pretrained(folder)
    from_json = XLMRobertaTokenizer.from_pretrained(folder)
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in all_texts():
        assert backend.encode(text).ids == from_json(text)["input_ids"], text
    write_expected(folder, all_texts(), ids=from_json, ids_model_alone=from_model)
    print("vocabulary", len(from_json))


def make_bert(folder):
    characters = sorted({c for s in SENTENCES for c in s.lower() if not c.isspace()})[:520]
    words = sorted({w for s in SENTENCES for w in s.lower().split() if w.isascii() and w.isalpha()})[:150]
    tails = ["##" + c for c in "abcdefghijklmnopqrstuvwxyz0123456789"] + ["##ing", "##ed", "##er", "##s"]
    vocab = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + characters + words + tails))
    (folder / "vocab.txt").write_text("".join(w + "\n" for w in vocab), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"}) + "\n")
    lower = BertTokenizer.from_pretrained(folder)
    cased = BertTokenizer.from_pretrained(folder, do_lower_case=False)
    write_expected(folder, short_texts(), ids=lower, ids_cased=cased)
    lower.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(w + "\n" for w in vocab), encoding="utf-8")
    print("vocabulary", len(lower))


def make_clip(folder):
    plain = CLIPTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=640, end_of_word_suffix="</w>", special_tokens=[],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    small = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    small.normalizer = plain.backend_tokenizer.normalizer
    small.pre_tokenizer = plain.backend_tokenizer.pre_tokenizer
    small.train_from_iterator(SENTENCES, trainer)
    model = json.loads(small.to_str())["model"]
    # CLIP's order: bytes, bytes at the end of a word, merges, the two special tokens last.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = letters + [c + "</w>" for c in letters]
    merges = [tuple(m) for m in model["merges"]]
    tokens += [t for t in ("".join(m) for m in merges) if t not in tokens]
    tokens = list(dict.fromkeys(tokens)) + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    write_expected(folder, short_texts(), ids=tokenizer)
    files = {n: (folder / n).read_bytes() for n in ("vocab.json", "merges.txt")}
    tokenizer.save_pretrained(folder)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    print("vocabulary", len(tokenizer))


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden")
    make_xlmr(fresh(root / "tokenizer"))
    make_bert(fresh(root / "tokenizer_bert"))
    make_clip(fresh(root / "tokenizer_clip"))


if __name__ == "__main__":
    main()
