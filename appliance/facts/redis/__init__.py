"""Follows one Redis flow and says what each command of its client would do.

Keys of `Facts.values` (facts/words/redis.py has the rules' side):

    effect    read write delete flush keys script transaction publish subscribe blocking session status admin config
              acl module debug monitor replication cluster migrate
    command   its name, with the subcommand; of a script those it calls as well
    key       keys it touches; "*" for every key
    compared  keys whose values its answer, or its failure, tells a part of
    copied    keys whose values it writes elsewhere
    channel   channels; a pattern is its text, and others are unknown
    script    SHA1 of a script, name of a function
    user database count
    text      all its arguments, for detectors

Unknown, so refused where only what is known is allowed: commands that are not in the server's table of the version
here (renamed ones, modules), whose keys the server is asked for; scripts whose text was never seen, or does not prove
what they do; functions; keys made of values (SORT ... GET); what is too long.

Not followed: what a script does with values, so a script that touches a protected key is refused by its mask; what
other connections change meanwhile.
"""

from appliance.facts.redis.reader import Redis, open

__all__ = ["Redis", "open"]
