"""Names for flow runs that name themselves: two words that a person can say, as in `brisk-heron`."""

from __future__ import annotations

import os

_FIRST = (
    "able amber ample arctic astute azure bold brave breezy bright brisk calm candid careful cheerful clear clever coral cosy crisp "
    "curious daring deft dutiful eager early easy fair fearless fine fleet frank free fresh gentle gifted glad golden graceful grand "
    "green happy hardy hazel honest humble ideal jolly jovial keen kind large light lively loyal lucid lucky mellow merry mild mighty "
    "modest neat nimble noble open patient placid plucky polite prompt proud quick quiet ready rosy royal sandy serene sharp shiny "
    "silent silver simple sleek smart snappy snowy solid sound spry steady still strong sunny sure swift tidy tranquil true upbeat "
    "vital vivid warm wise witty woolly zealous"
).split()
_SECOND = (
    "adder albatross alpaca antelope badger basilisk bear beaver bee bison bittern boar buzzard camel caribou cheetah chough civet "
    "condor coot cormorant crab crane cricket crow curlew deer dingo dolphin dove dragonfly duck eagle egret eider elk ermine falcon "
    "ferret finch firefly fox gannet gazelle gecko gibbon gnu goose goshawk grouse gull hare harrier hawk hedgehog heron hippo hornet "
    "ibex ibis iguana impala jackal jaguar jay kestrel kite koala lark lemming lemur leopard linnet lion lizard llama lobster lynx "
    "macaw magpie manatee marlin marmot marten martin mink mole moose moth newt nightjar numbat ocelot octopus okapi oriole osprey "
    "otter owl oyster panda panther partridge peacock pelican penguin petrel pheasant pika plover polecat puffin puma quail quokka "
    "rabbit raven redstart robin rook sable salmon seal serval shrew shrike siskin skua skylark sloth snipe sparrow squid starling "
    "stoat stork swallow swan swift tapir teal tern tiger toad trout turtle viper vole walrus wapiti weasel whale wigeon wolf wombat "
    "wren yak zebra"
).split()


def new_name() -> str:
    """Return a name drawn from some thirteen thousand."""
    # Not from `random`, whose seed is the user's to set and whose numbers are the user's to draw.
    drawn = int.from_bytes(os.urandom(4), "big")
    return f"{_FIRST[drawn % len(_FIRST)]}-{_SECOND[drawn // len(_FIRST) % len(_SECOND)]}"
