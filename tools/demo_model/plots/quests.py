"""Steps that are drawn and put together: meetings, trades, clues. What is given early is used later."""

from __future__ import annotations

from ..words import FOODS, SIGHTS
from . import pools
from .plot import Plot

GIFTS_ON_THE_WAY = Plot(
    "gifts",
    "somebody who helps others on the way",
    """
    {When}, {h} set off to bring some {food} to {f.intro}, who lived {f.home}. {scene1}

    [First|Soon|After a while] {h.they} met {who1} who {need1}. "[Can you help me?|Please help me!|Oh, what shall I
    do?]" {h} {help1}. "[Thank you|You are kind]! Take this {gift1}," said {the1}.

    [Further on|A little later|Then], {who2} {need2}. {h.Ref} {help2}, and got {some2} for it. [{scene2}|]

    At last {h.they} could see the house of {f}, but {trouble1}! "[What now?|And now?|How shall I get there?]"
    thought {h}. Then {h.they} remembered the {gift1}. {use1} "[How did you get here?|Is it you?|Who helped you?]"
    asked {f}. {h} told {f.them} about {the1} and {the2}, and they ate the {food} together.
    """,
    picks=(("", pools.ASKERS, 2), ("", pools.NEEDS, 2), ("", pools.GIFTS, 1), ("", pools.BAIT, 2)),
)
TRADES = Plot(
    "trades",
    "somebody who trades a {noun}",
    """
    {When}, {h} took {h.their} {thing} to the market. {h.They} wanted to trade it for something better. {scene1}

    The first to stop was {who1}. "[What a fine {noun}|That is just the {noun} I need]! I will give you {ware1} for
    it," said {the1}, and {h.ref} [agreed|shook hands|nodded]. [{scene2}|]

    Then came {who2}. "I would give {ware2} for {wname1}," said {the2}. "[Done|All right|Here you are]!" said {h}.
    [Before long|A bit later|At noon], {who3} wanted {wname2} and offered {ware3} [and a bit of {foods}|and some
    {pocket}|].

    On the way home {h.they} met {f.intro}, who looked sad. "[I need {ware3}|I have lost {ware3}|I have looked for
    {ware3} everywhere], and nobody has one," said {f}. {h} [did not think twice|laughed]. "[Take mine|You can have
    this one]," {h.they} said. {f} was so happy that {f.they} gave {h.them} [a kiss|a big hug] and {reward}: it was
    the very {noun} that {h} had traded away! [{F} had bought it an hour ago.|"I bought it from {the1}," said {f}.]
    """,
    picks=(("", pools.ASKERS, 3), ("", pools.WARES, 3)),
    fixed={"reward": ["a_ parcel", "a_ little box", "something wrapped in paper", "a_ bag with something in it"]},
)
SOUP = Plot(
    "soup",
    "cooking soup",
    """
    {When}, {h} was hungry, but in the kitchen there was nothing but {ingr1}. "[That will be a thin soup|From that
    alone one cannot make soup]," {h.they} said[ and put the pot on the fire|]. {ambient1}

    Then {f.intro} knocked at the door[, {doing2}|]. "[What are you cooking?|What smells so good?]" {f.they} asked.
    "[A soup of {ingr1}|Soup, but it needs something more]," said {h}. "[I have some {ingr2}|There is {ingr2} in my
    garden|Wait, I will fetch {ingr2}]!" said {f}. Soon {who1} came with {ingr3}, and {who2} brought {ingr4} [in a
    {looks} bucket|in a big bag|on a cart|].

    They put everything into the pot: {ingr1}, {ingr2}, {ingr3} and {ingr4}. {h.Ref} stirred it with a {looks}
    {noun}, because there was no spoon[ big enough|]. {cooking}

    It was the best soup that anybody had ever eaten. "[Shall we call it {h} soup?|What is it called?]" asked
    {the1}. "[Call it soup for everybody|Let us call it {f} soup]," said {h}. [Since then they cook together every
    {day}.|And {f} wrote down how it is made.]
    """,
    picks=(("ingr", pools.INGREDIENTS, 4), ("", pools.ASKERS, 2)),
    fixed={
        "day": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
        "cooking": [
            "The steam smelled of {smells}.", "While it cooked, {sounds}.", "They sang a song about {dream}.",
            "While they waited, they talked about {dream}.", "All of them felt as {feeling}.",
        ],
    },
)  # fmt: skip
LETTER = Plot(
    "letter",
    "a letter",
    """
    {When}, there was a letter on the door step of {h}. "Dear {h}," it said, "[please come|come quickly|meet me]
    {at} [tomorrow|today|on {day}]. Bring {ware1} and some {food}. I will bring {ware2}. Your {f}." [{f} was a
    {f.trait} {f.kind}|{f} the {f.kind} was an old friend], but what did {f.they} want?

    {h.Ref} [thought about it all day|read the letter twice|turned the letter over], but there was nothing else in
    it. So {h.they} packed {wname1} and the {food} and went. {scene1} [{scene2}|]

    {f} was waiting {at} with {ware2}. "[Did you bring everything?|Have you got it?]" "[Here it is|Here you are]:
    {ware1} and some {food}," said {h}. "[And what is it for?|But why?|Now tell me!]" {f.Ref} smiled. "{surprise}"

    [So they sat down and ate the {food}|They laughed and shared the {food}], and {h} [kept the letter|put the
    letter into {h.their} pocket|answered the letter with a long one]. "[Write to me again|Send me such a letter
    every week]," {h.they} said.
    """,
    picks=(("", pools.WARES, 2),),
    fixed={
        "day": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
        "surprise": [
            "I only wanted to see you, and {food} tastes better with you!",
            "Today we shall go to see {sights}, and for that one needs a full bag!",
            "From here one can see {sights}, and I wanted to show it to you!",
            "It is a year today since we met, just here!",
            "I have learned to play the {music}, and you shall be the first to hear it!",
            "I want to trade: you take what I have, and I take what you have!",
            "I have written a song about {dream}, and now I will sing it to you!",
        ],
    },
)  # fmt: skip
PET = Plot(
    "pet",
    "a lost {pet1}",
    """
    {h} had a {pet1} named {petname}, which {habit1}. {When}, {petname} was gone. "[Where is my {pet1}?|{petname}!
    Where are you?|Come back, {petname}!]" called {h}.

    {h.They} looked {spot1}, but there was only a {looks} {trinket}. {h.They} looked {spot2}, but there sat {who1},
    {doing}. "[Have you seen a {pet1}?|Did a {pet1} come past?]" "[I have not|No, but I heard something]," said
    {the1}. "[Ask {f}|{f} knows everything]." {scene1}

    So {h} went to {f.intro}. "[What does {petname} like best?|Think: what does it like?]" asked {f}. "It likes
    {food} [best|more than anything]," said {h}. [They put a plate of {food} {at} and waited.|They took some {food}
    and went out together.] [{ambient1}|]

    [Suddenly|After an hour|At last] there was a rustle {spot3}. Out came {petname}[, covered with leaves,|, as if
    nothing had happened,|] and ate up all the {food}. "[There you are, you rascal|Never do that again, {petname}]!"
    said {h} and [laughed|hugged the {pet1}]. {f} laughed, too[, for {petname} already slept|].
    """,
    picks=(("", pools.PETS, 1), ("spot", pools.HIDEOUTS, 3), ("", pools.ASKERS, 1)),
    fixed={
        "petname": [
            "Dusty",
            "Bean",
            "Button",
            "Crumb",
            "Pickle",
            "Snowy",
            "Patch",
            "Bubble",
            "Pepper",
            "Noodle",
            "Mopsy",
        ]
    },
)
MYSTERY = Plot(
    "mystery",
    "a riddle about a {noun}",
    """
    {When}, the {thing} of {f.intro} was gone. "[Somebody has taken it|It was here last night]!" said {f}. "[I will
    find out who it was|Let me look for clues]," said {h}.

    Where the {noun} had been, {h} found {crumb1}. {h.They} [wrote it down|thought hard|put {h.their} nose to the
    ground]. Near the door {h.they} found {stain1}, too. "[Who leaves {crumb1}?|That is strange]," {h.they} said.
    {ambient1}

    {h.They} asked {who1}, but {the1} had been {places} all night, {doing2}. {h.They} asked {who2}, but {the2} [only
    laughed|knew nothing] and went on {doing}. Then {h.they} came to {who3}. {The3} had {stain1} on one foot, and on
    the floor lay {crumb1}.

    "[It was you|You have the {noun}]!" said {h}. "[I only wanted to borrow it|I wanted to make a surprise of it],"
    said {the3}, "{excuse}." And there was the {noun}, [safe and sound|as good as new]. {f.Ref} [laughed|was not
    angry]. "[Next time, just ask|You need only have asked]," said {f}, "and {h} is the best detective {places}."
    """,
    picks=(("crumb", pools.CRUMBS, 1), ("stain", pools.STAINS, 1), ("", pools.ASKERS, 3)),
    fixed={
        "excuse": [
            "because I had to show it to a {animal}", "for I wanted to paint it {colours}", "because I was so alone",
            "for it goes so well with my {trinket}", "because I dreamed of it all night", "to put {pocket} in it",
            "because today is my birthday", "for a play about {dream}",
        ]
    },
)  # fmt: skip
CONTEST = Plot(
    "contest",
    "a contest",
    """
    {When}, a contest was held {at}: who could show the most wonderful thing? The prize was {ware1}.
    [{scene1}|{ambient1}]

    First came {who1} and {show1}, and everybody {clap}. Then came {who2} and {show2}. "[Wonderful|How clever]!"
    cried {somebody}. {F.intro} {show3}. Now it was the turn of {h}. {h.They} had [only|nothing but] a {thing}.
    [{h.Their} knees shook.|Somebody laughed.|It became very quiet.]

    {h} held up the {noun} and {told}. [When {h.they} was done, nobody said a word.|At first nobody moved.] Then
    [everybody clapped|{f} began to clap, and then all of them]. "[The prize goes to|The winner is] {h}," said the
    judge, "because {verdict}." And what did {h} do with {wname1}? {h.They} [gave it to {f}|shared it with
    {f}|carried it home and put {pocket} in it|put it beside a {looks} {trinket}].
    """,
    picks=(("", pools.ASKERS, 2), ("show", pools.SHOWS, 3), ("", pools.WARES, 1)),
    fixed={
        "clap": ["clapped", "cheered", "stamped and clapped", "laughed", "wanted to see it again",
        "said how fine it was"],
        "told": [
            "told the story of {dream}", "sang a song about {dream}", "told how it had been found {places}",
            "told them about {sights} and {somebody} there", "told a joke about a {animal} and a {animal}",
        ],
        "verdict": pools.VERDICTS,
    },
)  # fmt: skip
MACHINE = Plot(
    "machine",
    "building {gadget1}",
    """
    {When}, {h} had an idea: "[I will build|I want to build|What I need is] {gadget1}!" {h.They} took {part1},
    {part2} and {part3} from the shed. All day long, {h.they} [hammered|sawed and glued|worked], while {sounds}.

    [In the evening|At last], while {sounds}, {h} pulled the lever. {fail} [{h.Ref} sighed.|"Oh no," said {h}.] "[What
    is that?|What are you doing there?]" asked {f.intro}, who had come with some {food}. "{gname1}, but it does not
    work," said {h}. [{ambient1}|]

    {f} walked around it once. "[I see it|I know it]," {f.they} said. "{Pname2} [is|sits] upside down, and there is
    something missing." {f.Ref} ran home and came back with {part4}. They turned {pname2} around and put {pname4} on
    top.

    This time it worked! It {works1}. "[We did it|Look at that]!" cried {h}. [They danced around it|They ate the
    {food} beside it], and {somebody} [came to see it|clapped and cheered]. "Without {pname4}," said {h}, "it would
    be only a heap of [junk|wood and tin]. And without you as well."
    """,
    picks=(("", pools.GADGETS, 1), ("part", pools.PARTS, 4)),
    fixed={
        "fail": [
            "It went bang, and there was a smell of {smells}.", "Nothing happened at all.",
            "It rattled and stood still.",
            "It jumped into the air and fell on its side.", "A {looks} {trinket} fell out, and that was all.",
            "It made a noise like a {animal} and stopped.",
        ]
    },
)  # fmt: skip
MAP = Plot(
    "map",
    "a treasure",
    """
    {When}, {h} found an old map under a {thing}. "Begin {at}," was written on it. "Walk [ten|twenty|fifty|a
    hundred] steps to {mark1}. Turn [left|right] at {mark2}, and dig beneath {mark3}." [{h.Ref} ran to fetch
    {f.intro}|{h} showed it to {f.intro}]. "[A treasure|We shall be rich]!" said {f}.

    They began {at} and counted their steps. There was {mark1}, [just as the map said|and {somebody} sat beside it,
    {doing}]. They came to {mark2} and turned. {ambient1}

    Beneath {mark3} they dug and dug. [{f.Ref} wanted to give up.|"Are you sure?" asked {f}.] Then there was a
    clank: a chest! In it lay {ware1} and {ware2} among {pocket}, and a note: "{note}"

    "[That is better than gold|What a treasure]!" said {h}. {h.They} took {wname1}, and {f} took {wname2}. [Then
    they put some {food} into the chest, for the next one to find.|Then they hid the map under the {noun} again.|]
    """,
    picks=(("mark", pools.LANDMARKS, 3), ("", pools.WARES, 2)),
    fixed={
        "note": [
            "The best treasure is a friend who digs with you.", "Well done! Now hide something for others.",
            "We were friends, {animal} and {animal}, and this was ours.",
            "Whoever finds this shall dance once around {sights}.",
            "Gold is heavy. This is fun.", "Who finds this must sing about {dream}.",
        ]
    },
)  # fmt: skip
QUESTION = Plot(
    "question",
    "the most beautiful thing in the world",
    """
    {When}, {h} asked {h.self}: what is the most beautiful thing in the world? {h.They} did not know, so {h.they}
    went out to ask. {scene1}

    "It is {sight1} on a {weather} [morning|evening|day]," said {who1}. "No, it is {food1}," said
    {who2}. {Who3} [laughed|shook a wise head]. "It is a {thing}, of course," said {the3}. [Now {h} knew even
    less.|Everybody said something else!]

    [In the evening|Tired out], {h} came to {f.intro} {at}. "[{the1} says {sight1}, {the2} says {food1}, and {the3}
    says a {thing}|One says {sight1}, and one says {food1}]," said {h}. "[Who is right?|What do you say?]" {f.Ref}
    [thought for a while|moved over]. "[Sit down|Come here] and look." From there one could see {sights},
    and {sounds}.

    "[Beautiful|How beautiful]," said {h}. "[Yes|Just so], and do you know why?" said {f}. "[Because there are two
    of us to see it|Because you are here|Because we have time to look]."
    """,
    picks=(("", pools.ASKERS, 3), ("sight", SIGHTS, 1), ("food", FOODS, 1)),
)
FRIENDLY_WALK = Plot(
    "walk",
    "a walk",
    """
    {When}, {h} went for a walk {at} with a {thing} and {ware1}. {scene1} [{scene2}|]

    There stood {f.intro}, {doing2}. "[May I come with you?|Shall we walk together?|May I see your {noun}?]" asked
    {f}. "[Gladly|With pleasure|Come along]," said {h}, "[if you carry {wname1}|and tell me a story]." So {f}
    carried {wname1}. {ambient1}

    They {did1}, {did2} and {did3}. [{h} found a {looks} {trinket}, and {f} found some {pocket}.|{f} told a story about
    {dream}.] When {f} grew tired, they sat down and ate {food}. "[I was going nowhere|I only wanted to walk]," said
    {h}, "and now I have a {noun}, {ware1} and a friend."
    """,
    picks=(
        (
            "did",
            (
                "looked at {sights}", "climbed a hill and saw {sights}", "played hide-and-seek {places}",
                "counted {pocket}",
                "jumped over a brook", "sang a song about {dream}", "talked about {foods} and {arts}",
                "watched {somebody} who was {doing}", "guessed what smelled of {smells}",
                "made a boat from a {colours} leaf", "threw stones into the water",
            ),
            3,
        ),
        ("", pools.WARES, 1),
    ),
)  # fmt: skip

QUESTS = (
    GIFTS_ON_THE_WAY, TRADES, SOUP, LETTER, PET, MYSTERY, CONTEST, MACHINE, MAP, QUESTION, FRIENDLY_WALK,
)  # fmt: skip
