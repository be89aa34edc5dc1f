"""Tales of a few sentences: a wish or a mishap, what came of it, an end. Each follows an opening about the hero.

Names, kinds and things are said often and pronouns seldom, so that a small model learns early to stay with them. In a
nameless tale, "the fox" stands where otherwise the name does: that is how a model learns to stay with what it was asked
for. Slots are those of plot.py.
"""

from __future__ import annotations

import re

from ..grammar import paragraphs

TALE_OPENINGS = paragraphs("""
    [Once upon a time|Once|Long ago], there was a_ {h.trait} {h.kind} named {h}.

    [Once upon a time|Long ago|Once] there lived a_ {h.kind} called {h}. {h.They} was very {h.trait}.

    {h} was a_ {h.trait} {h.kind} who lived {h.home}.

    {H.Home} lived a_ {h.trait} {h.kind} [named|called] {h}.

    There once was a_ {h.kind} named {h} who lived {h.home}.
""")
NAMELESS_OPENINGS = paragraphs("""
    [Once upon a time|Once|Long ago], there was a_ {h.trait} {h.kind}.

    [Once upon a time|Long ago|Once] there lived a_ {h.kind}. {h.They} was very {h.trait}.

    A_ {h.trait} {h.kind} lived {h.home}.

    {H.Home} lived a_ {h.trait} {h.kind}.

    There once was a_ {h.kind} who lived {h.home}.
""")
TALES = paragraphs("""
    {h} had a_ {thing} and took it everywhere. [One day|One morning|One evening] the {noun} was gone. {h} [looked under
    the bed|looked behind the door|looked in every corner] and [began to cry|was very sad|did not know what to do].
    Then {f} the {f.kind} came by. "Is this your {noun}?" asked {f}. {f} had found it {at}. {h} [hugged {f}|danced for
    joy|gave {f} some {food}], and the {h.kind} and the {f.kind} played with the {noun} until it was dark.

    More than anything, {h} wanted a_ {thing}. But {h} had no money. So {h} went to {f} the {f.kind} and [helped {f} in
    the garden|washed the windows for {f}|carried wood for {f}] all week. On Sunday, {f} said, "Close your eyes, {h}!"
    When {h} opened them again, there was the {thing}. "[You have earned it|It is yours now]," said {f}. {h} [slept
    with the {noun} under the pillow|showed the {noun} to everybody|never let go of the {noun} again].

    {h} was afraid of the dark. Every night the {h.kind} [hid under the blanket|kept a lamp burning|could not sleep].
    "Come with me," said {f} the {f.kind} one evening. {h} and {f} sat {at} and looked up. There were a thousand stars!
    "Without the dark, nobody could see them," said {f}. Since then, {h} [likes the night best of all|looks at the
    stars every night|is not afraid any more].

    One day, {h} found a_ {thing} {at}. "[Finders keepers|Now it is mine]!" said {h}. But then {h} saw {f} the
    {f.kind}, who was [crying|looking for something|sad]. "I have lost my {noun}," said {f}. {h} thought [for a
    while|hard|for a moment] and gave the {noun} back. {f} was so happy that {f} [invited {h} to supper|shared some
    {food} with {h}|sang a song for {h}]. "A friend is better than a_ {noun}," said the {h.kind}.

    {h} wanted to bake a cake for {f} the {f.kind}. But {h} took [salt|pepper|sand] instead of sugar. {f} took a bite
    and [coughed|made a face|drank a bucket of water]. "[Is it good?|Do you like it?]" asked {h}. "It is the worst cake
    in the world," said {f}, and both of them laughed. Then {f} showed {h} how to make {food}, and {h} and {f} ate it
    {at}.

    It rained and rained. {h} sat [at the window|in the kitchen|by the stove] and was bored. Then {f} the {f.kind}
    knocked at the door with a_ {thing}. "[Rain is only water,|Let us go out,|Who is afraid of rain?]" said {f}. So {h}
    and {f} took the {noun} and [jumped into every puddle|sailed it in the puddles|danced in the rain]. In the evening
    {h} said, "I hope that it rains tomorrow, too!"

    {h} and {f} the {f.kind} both wanted the {thing}. {h} pulled, and {f} pulled, and then the {noun} broke. {h}
    [cried|was angry|said nothing], and {f} [cried|was angry|said nothing], too. "[I am sorry|That was silly of me],"
    said {h} at last. "I am sorry, too," said {f}. So the {h.kind} and the {f.kind} [mended the {noun}|glued the
    {noun}|took needle and thread] together, and after that it belonged to both of them.

    {h} could not swim. When all the others were in the water, {h} stayed [at home|behind|in the grass]. "I will show
    you," said {f} the {f.kind}. {h} [swallowed a lot of water|sank like a stone] the first day. On the second day {h}
    [floated|swam a little]. On the third day {h} swam [across|all the way] and back. "{f}, did you see me?" cried {h}.
    "I did," said {f}, "and I am proud of you, {h}."

    A strong wind came and took the {noun} of {h}. It was a_ {thing}, and {h} ran after it. The {noun} flew over the
    [hedge|roof|road] and landed in front of {f} the {f.kind}. "[What a nice gift from the sky|It rains {noun}s]!" said
    {f}. "That is mine," said {h}, quite out of breath. {f} laughed and gave the {noun} to {h}. So {h} and {f} became
    friends, and both of them [thanked the wind|like windy days].

    {h} had a birthday, but nobody came. {h} sat {at} and [sighed|cried a little|felt all alone]. Then {h} heard a
    noise. There was {f} the {f.kind} with [a big cake|some {food}] and a_ {thing}! "Happy birthday, {h}!" shouted {f}.
    "[I had to look for the {noun} everywhere|The {noun} was so hard to find], so I am late." {H} hugged {f} and said,
    "This is the best birthday of my life."

    {h} wanted to be the fastest {h.kind} in the world. So {h} and {f} the {f.kind} ran a race. {h} was far ahead when
    {f} [fell over a stone|fell into a hole|hurt a foot]. {h} stopped and [looked back|thought]. Then {h} turned around
    and helped {f}. "Now you have not won," said {f}. "[But I have not lost you|A friend is more than a race]," said
    {h}, and the {h.kind} and the {f.kind} walked to the end side by side.

    One night, {h} saw a star fall {at}. {h} woke {f} the {f.kind}, and they ran there with a_ {thing}. But in the
    grass lay only a_ [warm stone|little lamp|firefly]. "That is no star," said {f}. "[I will wish for something all
    the same|It is as good as one]," said {h}. "What did you wish?" asked {f}. {h} smiled and gave {f} some {food}. "It
    has come true already," said {h}.

    {h} found an old map under a_ {thing}. "There must be gold!" cried {h}, and {f} the {f.kind} came along. The map
    led {h} and {f} [over hills and bridges|through mud and thorns]. {at} they dug a deep hole, but there was nothing
    in it. "[No gold|All for nothing]," said {h}. "But now we have a pond," said {f}, for it began to rain. And {h} and
    {f} [swam in it all summer|sailed the {noun} on it].

    {h} sang so badly that everybody [ran away|closed the windows|covered their ears]. Only {f} the {f.kind} stayed.
    "Do you like my song?" asked {h}. "No," said {f}, "but I like you." {H} [laughed|blushed] and sang a little lower.
    {f} fetched a_ {thing} and beat time with the {noun}. [Soon|After a week] the {h.kind} and the {f.kind} sang {at},
    and nobody ran away any more.

    {h} broke the {thing} of {f} the {f.kind}. Nobody had seen it. {h} hid the {noun} {at} and [went home|said
    nothing]. But at night {h} could not sleep. In the morning {h} went to {f} and said, "I broke your {noun}. I am
    sorry." {F} was sad for a moment. "[Thank you for telling me|It was brave to tell me], {h}," said {f}. Together
    they made a new {noun}, and {h} slept well again.

    In winter {h} was cold and had nothing to eat but some {food}. There was a knock at the door. It was {f} the
    {f.kind}, who was even colder. "Come in," said {h}, and shared the {food} with {f}. In the morning {f} was gone,
    but on the table lay a_ {thing}. "For {h}," said a note. "Whoever shares will never be poor." {H} kept the {noun}
    for ever.

    {h} planted a_ {thing} {at}. "{Noun}s do not grow on trees," said {f} the {f.kind}. But {h} watered the {noun}
    every day. At night, {f} came in secret and hung [ten|six|three] {noun}s on a tree. "Look, {f}!" cried {h} in the
    morning. "They do grow!" "So they do," said {f} and [smiled|winked]. {h} gave {f} half of the {noun}s.

    {f} the {f.kind} had to move far away. {h} was so sad that {h} could not eat any {food}. "Take this {noun}," said
    {f}. "When you miss me, look at it." It was a_ {thing}. Every evening, {h} [looked at the {noun}|held the {noun}
    tight]. Then, one day, somebody stood {at} and waved: it was {f}! "I missed you, too, {h}," said {f}, and stayed.

    {h} got stuck in a_ [hollow tree|narrow gate|old barrel] {at}. "Help!" cried {h}. {f} the {f.kind} came and pulled,
    but {h} did not move. "[You have eaten too much|That is from all the {food}]," said {f}. So {f} sat down and read
    {h} stories for three days. Then {f} pulled with a_ {thing}, and pop! {h} was free. "Shall we eat some {food} now?"
    asked {h}.

    {h} saw the moon in the pond and wanted to fish it out with a_ {thing}. {f} the {f.kind} came by. "What are you
    doing, {h}?" asked {f}. "The moon has fallen into the water," said {h}. {f} laughed and pointed up. There was the
    moon! {h} [blushed|laughed, too]. "Then I have saved it," said {h}, and {h} and {f} and the {noun} went home.
""")


def nameless(template: str) -> str:
    """A tale whose heroes are called by their kinds: nobody is addressed, and the second comes with an article."""
    template = re.sub(r", \{[hf]\}(?=[!?.,\"])", "", template.replace('"{f}, did', '"Did'))
    return template.replace("{f} the {f.kind}", "a_ {f.kind}")
