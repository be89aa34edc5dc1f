"""Texts that tokenizers cut differently: for the comparison of a converted tokenizer with its source's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, pairwise

__all__ = ["texts"]

_SENTENCES = r"""
The harbour was quiet, and the last boats came home before the rain.
I'm sure she'll say they've left; we'd better not, HE'S LATE and IT'LL DO.
"Well," said the miller's daughter, 'that's the third time—isn't it?'
Zürich, São Paulo, Łódź, Reykjavík, Örebro und ça déjà-vu: naïve façade, smörgåsbord.
Straße, Größe, Übermaß; œuvre, cœur, Æsir, ĳs, ﬁne ﬂour, ſo.
Übung macht den Meister, sagte der Bäcker und zählte seine Brötchen.
Le garçon a mangé les crêpes de sa grand-mère à l'hôtel où il était né.
El niño pequeño preguntó: ¿dónde está el corazón? ¡Aquí!
Być może jutro będzie źdźbło trawy żółte jak słońce.
Kārlis skrēja pa ceļu; žuvis plaukė Šiaurės link.
Ngày mai trời sẽ nắng đẹp ở Đà Nẵng và tiếng Việt có nhiều dấu.
Съёмка прошла быстро, объектив цел, а юный щенок ещё гоняет мяч.
Щоб їжак не змерз, ґава принесла йому ковдру.
Ο γρήγορος λύκος πηδά πάνω από την ήσυχη θάλασσα.
הנהר זורם לאט ליד הכפר, והילדים משחקים בחוץ.
كان الولد يقرأ كتابًا قديمًا تحت الشجرة الكبيرة.
یک روز آفتابی به بازار رفتیم و انار خریدیم.
नदी के किनारे एक बूढ़ा किसान अपने बैलों के साथ बैठा था।
নদীর ধারে একটি ছোট গ্রাম ছিল, সেখানে সবাই গান গাইত।
ஆற்றின் கரையில் ஒரு சிறிய வீடு இருந்தது.
แม่น้ำไหลผ่านหมู่บ้านเล็กๆ ในตอนเช้า
မြစ်ကမ်းဘေးမှာ ရွာလေးတစ်ရွာ ရှိတယ်။
ნისლიან დილას მეზღვაურმა შორს კუნძული დაინახა.
Գետի ափին մի փոքրիկ տուն կար։
በወንዙ ዳር አንድ ትንሽ መንደር ነበረ።
昨日は雨でしたが、今日はいい天気です。カタカナもひらがなも漢字もある。
河边有一座小村庄，村里的人每天早上都去市场买鱼。
舊城牆下的茶館，晚上八點半以後就關門了！
강가에 작은 마을이 있었고, 사람들은 매일 아침 시장에 갔다.
ᠨᠢᠭᠡ ᠡᠳᠦᠷ ᏣᎳᎩ ᚠᚢᚦ 𐍈𐌰 𝔘𝔫𝔦 𝕔𝕠𝕕𝕖 ①②③ ½ ⅔ ² ³ ™ № ℃
Emoji: 🙂🎉🚀 👩‍🌾 👍🏽 🇨🇭🇯🇵 ❤️ 🧑‍🤝‍🧑 and a flag 🏴󠁧󠁢󠁳󠁣󠁴󠁿.
Full width ＡＢＣ １２３，half ｱｲｳ; ligature ﷺ and symbols ㎏ ㍿ ㈱ ℻ Ⅻ ⅷ.
1 12 123 1234 12345 123456 1234567890 3.14159 2,718,281 0xFF 1e-9 007 ١٢٣٤ १२३ ４５６
+41 44 123 45 67, 2024-02-29T23:59:60Z, $9.99, €1 000,00, 50%, 12:30, v1.2.3-rc4, 10^6
https://example.org/a/b?c=d&e=%20#f user.name+tag@example.com C:\Temp\x.txt ~/.config
def f(x: int) -> str: return f"{x!r}" if x >= 0 else None  # why
for (int i = 0; i < n; ++i) { a[i] += b->c ? ~d : !e; }  /* ok */ // x
SELECT name, COUNT(*) FROM users WHERE id != 3 AND age >= 18 GROUP BY 1;
<div class="x">&nbsp;<br/></div> {"key": [1, 2.5, null, true], "s": "\u00e9"}
camelCase PascalCase snake_case SCREAMING_CASE kebab-case iPhone15Pro HTTPServer2 x86_64
\frac{a}{b} \sum_{i=0}^{n} x_i^2 ≤ ∞, ∀x∈ℝ: x² ≥ 0 ⇒ ∃y. λx.x → ← ↔
!!! ??? ... --- ___ ((())) [[]] {{}} <<>> ,,, ;;; ''' "" ``` *** ### @@@ ~~~ ||| &&& %%%
aaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbb hahahahaha zzzzzzzz =================== ................
a b  c   d    e     f      g       h        i          j            k
"""
_ODD = (  # these are escaped where an editor could change or hide them
    "Decomposed: e\u0301te\u0301, a\u030angstro\u0308m, n\u0303, q\u0307\u0323, \u1112\u1161\u11ab, \u0958, \u2126.",
    "soft\u00adhyphen, zero\u200bwidth, joiner\u200d, mark\ufeff, line\u2028separator, \x7f, \u0085next",
    "def f(x):\n    if x:\n\t\treturn [\n            x,\n        ]\n\n\n    pass\t# tab\n",
)
_SPACES = (" ", "  ", "   ", "\n", "\n\n", " \n", "\n ", "\t", "\r\n", "\u00a0", "\u3000", " \t \n ", "\n\n\n\n")


def texts(special: Iterable[str] = ()) -> Iterator[str]:
    """Some hundred texts: sentences in many scripts, code, numbers, emoji and spaces, mixed; and ``special`` tokens."""
    sentences = [*filter(None, _SENTENCES.splitlines()), *_ODD]
    yield from sentences
    yield from chain.from_iterable((space, f"{space}a", f"a{space}", f"a{space}b{space}") for space in _SPACES)
    for i, (left, right) in enumerate(pairwise(sentences)):
        gap = _SPACES[i % len(_SPACES)]
        yield left[: len(left) // 2] + gap + right[len(right) // 2 :]
        yield f"{gap}{right.split(' ')[0]}{left[-7:]}"
        yield (left[::3] + right[::5]).upper()
    for token in special:
        yield from (token, f"a{token}b", f"a {token} b", f"  {token}{token}\n", f"x{token} {token}y")
