"""What calling a function does, by its name.

Three kinds: those that only compute (builtins.py), those with an effect of their own (`EFFECTS`), and all
others, which may do anything. A function is the built-in one if it is qualified with pg_catalog, or if
pg_catalog comes first in the search path and the catalogue shows no user's function of that name that takes
built-in types only.

Source: PostgreSQL 15 manual, "Functions and Operators"; [measured] that a read-only transaction stops none of
those in `EFFECTS` but nextval and setval.
"""

from collections.abc import Mapping

import msgspec

from appliance.facts.sql.builtins import OPERATORS, PURE, PURE_PREFIXES, SETS
from appliance.facts.sql.world import World


class Call(msgspec.Struct, frozen=True, gc=False):
    """What a call does."""

    effects: frozenset[str]
    opaque: bool = False  # may do anything
    moves: bool = False  # its arguments go somewhere else than into the result
    rows: bool = False  # how many rows come back depends on its arguments


_BY_EFFECT = {
    "write": """nextval setval lo_creat lo_create lo_from_bytea lo_put lo_unlink lo_truncate lo_truncate64
    lo_open
        lowrite lo_close lo_lseek lo_lseek64 lo_tell lo_tell64""",
    "read": "lo_get loread",
    "session": """set_config setseed pg_export_snapshot pg_stat_clear_snapshot pg_stat_force_next_flush""",
    "notify": "pg_notify",
    "lock": """pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all
        pg_advisory_unlock_shared pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_lock
        pg_try_advisory_lock_shared pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared""",
    "file": """lo_import lo_export pg_read_file pg_read_file_old pg_read_binary_file pg_stat_file pg_ls_dir
        pg_ls_archive_statusdir pg_ls_logdir pg_ls_logicalmapdir pg_ls_logicalsnapdir pg_ls_replslotdir
        pg_ls_summariesdir pg_ls_tmpdir pg_ls_waldir pg_hba_file_rules pg_ident_file_mappings
        pg_show_all_file_settings pg_current_logfile pg_file_write pg_file_rename pg_file_unlink pg_file_sync
        pg_logdir_ls""",
    "admin": """pg_terminate_backend pg_cancel_backend pg_reload_conf pg_rotate_logfile pg_rotate_logfile_old
        pg_switch_wal pg_switch_xlog pg_create_restore_point pg_promote pg_wal_replay_pause
        pg_wal_replay_resume pg_backup_start pg_backup_stop pg_start_backup pg_stop_backup pg_stat_reset
        pg_stat_reset_shared pg_stat_reset_slru pg_stat_reset_single_table_counters
        pg_stat_reset_single_function_counters pg_stat_reset_replication_slot pg_stat_reset_subscription_stats
        pg_stat_reset_backend_stats pg_logical_emit_message pg_log_backend_memory_contexts
        pg_create_physical_replication_slot pg_create_logical_replication_slot
        pg_copy_physical_replication_slot pg_copy_logical_replication_slot pg_drop_replication_slot
        pg_replication_slot_advance pg_replication_origin_create pg_replication_origin_drop
        pg_replication_origin_advance pg_replication_origin_session_setup pg_replication_origin_session_reset
        pg_replication_origin_xact_setup pg_replication_origin_xact_reset pg_import_system_collations
        brin_summarize_new_values brin_summarize_range brin_desummarize_range gin_clean_pending_list
        pg_restore_relation_stats pg_clear_relation_stats pg_restore_attribute_stats
        pg_clear_attribute_stats""",
}

EFFECTS: Mapping[str, Call] = {
    name: Call(frozenset((effect,)), moves=effect != "read")
    for effect, names in _BY_EFFECT.items()
    for name in names.split()
}

OPAQUE = Call(frozenset(("procedure",)), opaque=True, moves=True, rows=True)
_PURE = Call(frozenset())
_SET = Call(frozenset(), rows=True)


def call(world: World, parts: tuple[str, ...]) -> Call:
    """Return what calling the function of that (possibly qualified) name does."""
    name = parts[-1]
    if len(parts) > 1:
        schema = parts[-2]
        if schema == "information_schema" and name.startswith("_pg_"):
            return _SET  # helpers of its views; the JDBC driver calls them
        if schema != "pg_catalog":
            return OPAQUE
    elif hidden(world, name):
        return OPAQUE
    if name in PURE or name.startswith(PURE_PREFIXES):
        return _SET if name in SETS else _PURE
    return EFFECTS.get(name, OPAQUE)


def hidden(world: World, name: str) -> bool:
    """Return True if a function called by a name without a schema may be one of a user's."""
    return not world.builtin_first or (world.catalog is not None and world.shadowed(world.catalog.functions, name))


def operator(world: World, parts: tuple[str, ...]) -> bool:
    """Return True if the operator is known to be a built-in one."""
    if parts[-1] not in OPERATORS:
        return False
    if len(parts) > 1:
        return parts[-2] == "pg_catalog"
    return world.builtin_first and not (
        world.catalog is not None and world.shadowed(world.catalog.operators, parts[-1])
    )


def castable(world: World, parts: tuple[str, ...]) -> bool:
    """Return True if making a value of that type runs no code of a user, as far as can be seen."""
    if len(parts) > 1 and parts[-2] == "pg_catalog":
        return True
    if len(parts) == 1 and not world.builtin_first:
        return False
    types = world.catalog.types if world.catalog is not None else frozenset[str]()
    return parts[-1] not in types and parts[-1].removeprefix("_") not in types  # "_x": the array of it
