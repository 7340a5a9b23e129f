"""The one table of faults: what is broken, what holds, which tests say so, and how long the long ones may take."""

from __future__ import annotations

from dataclasses import dataclass

MINUTE = 60


@dataclass(frozen=True)
class Row:
    """One fault. `tests` are run by `make test`, `long` by `make soak`; both are names below tests/faults."""

    key: str
    fault: str
    holds: str
    tests: tuple[str, ...]
    long: tuple[str, ...]
    size: str
    """Of the long form, in words."""
    bound_s: int = 20 * MINUTE
    """What the long form may take at most; then it is stopped and counts as failed."""


KILLED = "test_daemon_killed.py"
SHIM = "test_shim_killed.py"
DISK = "test_disk_full.py"
DAMAGE = "test_storage_damage.py"
HOSTILE = "test_hostile_output.py"
FOLLOWERS = "test_followers.py"
RESOURCES = "test_resources.py"
TREES = "test_trees.py"
LOAD = "test_load.py"
CLOCK = "test_clock.py"
UPGRADE = "test_upgrade.py"
PIDS = "test_pids.py"
WORKTREES = "test_worktrees_killed.py"
WARM = "test_warm_killed.py"
NIGHT = "test_random_work.py"

ROWS = (
    Row(
        "row01", "daemon killed (SIGKILL) at random beside 8 runs with permission requests",
        "0 bytes lost or doubled, 0 wrong exit codes, 0 started twice, answers heard once",
        (f"{KILLED}::test_random_kills_lose_double_and_forget_nothing",),
        (f"{KILLED}::test_a_thousand_random_kills_lose_double_and_forget_nothing",),
        "1,000 kills", 40 * MINUTE,
    ),
    Row(
        "row02", "daemon killed at each named place (below), or a write there refused",
        "the same; no run started twice, none forgotten",
        (f"{KILLED}::test_a_kill_at_a_named_place_loses_nothing",
         f"{KILLED}::test_a_refused_write_at_a_named_place_loses_nothing"),
        (f"{KILLED}::test_a_hundred_kills_at_a_named_place_lose_nothing",),
        "100 kills each", 100 * MINUTE,
    ),
    Row(
        "row03", "restart with many live runs and a long log",
        "listening < 1 s, all attached < 2 s, all answers heard",
        (f"{RESOURCES}::test_a_restart_attaches_to_all_live_runs",),
        (f"{RESOURCES}::test_a_restart_attaches_to_fifty_live_runs_beside_ten_million_lines",),
        "50 runs, 10,000,000 lines", 40 * MINUTE,
    ),
    Row(
        "row04", "daemon frozen (SIGSTOP) while runs write 10 MB/s",
        "0 bytes lost, catch-up > 50 MB/s",
        (f"{LOAD}::test_a_frozen_daemon_loses_nothing",),
        (f"{LOAD}::test_a_daemon_frozen_for_a_minute_catches_up",),
        "60 s, 600 MB",
    ),
    Row(
        "row05", "shim killed, also at each of its named places",
        "the run goes on, 0 bytes lost, the right exit code or `lost`, never a false success; no survivor",
        (f"{SHIM}::test_a_run_goes_on_when_its_shim_is_killed",
         f"{SHIM}::test_a_shim_killed_at_a_named_place_starts_nothing_twice"),
        (f"{SHIM}::test_fifty_shims_killed_lose_nothing",),
        "50 kills",
    ),
    Row(
        "row06", "shim and daemon killed at once",
        "taken over at the next start; with the child killed too: a prefix of the output, `lost`, strays gone < 2 s",
        (f"{SHIM}::test_a_run_that_lost_shim_and_daemon_is_taken_over_with_all_its_output",
         f"{SHIM}::test_all_killed_at_once_leave_a_lost_run_its_output_and_no_process"),
        (f"{SHIM}::test_twenty_times_all_killed_at_once_leave_a_prefix_and_no_process",),
        "20 rounds of each",
    ),
    Row(
        "row07", "15 process trees that are hard to kill",
        "0 survivors, p99 < 500 ms",
        (f"{TREES}::test_a_forced_kill_leaves_none_of_the_hostile_trees",
         f"{TREES}::test_a_patient_kill_leaves_none_of_the_hostile_trees"),
        (f"{TREES}::test_a_hundred_rounds_of_hostile_trees_leave_nobody",),
        "100 rounds", 30 * MINUTE,
    ),
    Row(
        "row08", "children that stay behind",
        "gone < `execution.linger_s` + 1 s; kept where the project says so",
        (f"{TREES}::test_what_a_run_leaves_behind_is_gone_after_the_linger",
         f"{TREES}::test_a_project_may_keep_what_its_runs_leave_behind"),
        (f"{TREES}::test_what_thirty_runs_leave_behind_is_gone_in_time",),
        "30 runs",
    ),
    Row(
        "row09", "disk full during output, spilled lines, commits, the end of a run, a restart",
        "prompts are refused with `STORAGE_FULL` (507), runs wait and say so, 0 lost, goes on by itself",
        (f"{DISK}::test_output_waits_for_room_and_is_whole_afterwards",),
        (DISK,),
        "all 7 cases",
    ),
    Row(
        "row10", "damaged end of the log, six kinds; database damaged, missing, or its repair cut short",
        "opens always, set aside and read again from the process, numbers dense; database made anew from the log",
        (f"{DAMAGE}::test_a_damaged_tail_of_the_log_is_set_aside_and_written_again",
         f"{DAMAGE}::test_a_lost_database_is_rebuilt_from_the_log_and_everything_goes_on"),
        (f"{DAMAGE}::test_damaged_tails_again_and_again_are_set_aside_and_written_again",),
        "60 daemons (2,000 more cases in tests/property)",
    ),
    Row(
        "row12", "giant lines, bytes that are no text, no newline at the end",
        "kept byte for byte, memory < +64 MB beside what is read",
        (f"{HOSTILE}::test_a_line_of_sixty_four_megabytes_is_kept_whole_in_bounded_memory",
         f"{HOSTILE}::test_lines_that_are_no_events_are_kept_byte_for_byte",
         f"{HOSTILE}::test_output_without_a_newline_at_its_end_is_kept"),
        (f"{HOSTILE}::test_a_line_of_a_gigabyte_is_kept_whole_in_bounded_memory",),
        "two lines of 1 GB",
    ),
    Row(
        "row13", "one run that writes 200 MB/s beside 10 quiet ones",
        "the quiet ones' delay p99 < 50 ms",
        (f"{LOAD}::test_quiet_runs_are_heard_beside_a_loud_one",),
        (f"{LOAD}::test_quiet_runs_are_heard_at_once_beside_one_that_writes_all_it_can",),
        "20 s",
    ),
    Row(
        "row14", "a follower that does not read",
        "the others' p99 < 100 ms, memory is bounded",
        (f"{FOLLOWERS}::test_one_follower_that_does_not_read_costs_the_others_nothing",),
        (f"{FOLLOWERS}::test_five_hundred_followers_and_one_that_does_not_read",),
        "500 followers",
    ),
    Row(
        "row15", "clock jumps by an hour to and fro, over a change to summer time; suspend and resume",
        "time-outs by the monotonic clock, numbers dense",
        (f"{CLOCK}::test_leaps_of_the_clock_move_no_timeout",
         f"{CLOCK}::test_a_suspended_machine_goes_on_where_it_stood"),
        (f"{CLOCK}::test_a_hundred_leaps_of_the_clock_move_no_timeout",),
        "100 leaps",
    ),
    Row(
        "row16", "twelve commands start the daemon at once",
        "exactly one daemon, 0 failures",
        (f"{RESOURCES}::test_twelve_commands_at_once_start_one_daemon",),
        (f"{RESOURCES}::test_twelve_commands_at_once_a_hundred_times_start_one_daemon_each",),
        "100 rounds", 30 * MINUTE,
    ),
    Row(
        "row17", "stale socket or lock, a lock held by another, places of others",
        "a message that names the place, and the right exit code",
        (f"{RESOURCES}::test_a_stale_socket_and_a_stale_lock_are_in_nobodys_way",
         f"{RESOURCES}::test_the_second_daemon_ends_with_75_and_names_the_first",
         f"{RESOURCES}::test_a_lock_held_by_a_stranger_is_told",
         f"{RESOURCES}::test_a_living_socket_of_somebody_else_is_not_taken",
         f"{RESOURCES}::test_a_state_directory_that_is_not_private_is_refused"),
        (f"{RESOURCES}::test_the_second_daemon_ends_with_75_and_names_the_first",
         f"{RESOURCES}::test_a_stale_socket_and_a_stale_lock_are_in_nobodys_way",
         f"{RESOURCES}::test_a_lock_held_by_a_stranger_is_told",
         f"{RESOURCES}::test_a_living_socket_of_somebody_else_is_not_taken",
         f"{RESOURCES}::test_a_state_directory_that_is_not_private_is_refused"),
        "the same",
    ),
    Row(
        "row18", "upgrade in mid-run: shims of an older revision, this daemon, and back",
        "attached, answered, nothing lost; where the older one cannot, it says why and harms nothing",
        (f"{UPGRADE}::test_a_shim_of_another_protocol_is_refused_politely",),
        (f"{UPGRADE}::test_runs_live_through_an_upgrade_and_a_step_back",),
        "the revisions in REVISIONS",
    ),
    Row(
        "row19", "process ids wrap during kill and attach",
        "no process of anybody else is ever signalled",
        (f"{PIDS}::test_no_stranger_is_signalled_when_pids_come_round",),
        (f"{PIDS}::test_no_stranger_is_signalled_in_many_rounds_of_pids",),
        "200 runs, 600 pids",
    ),
    Row(
        "row20", "256 file descriptors, EMFILE, ENOMEM and EAGAIN at fork",
        "runs wait for their turn or fail with the reason; the daemon lives",
        (f"{RESOURCES}::test_few_descriptors_fail_or_delay_runs_and_never_the_daemon",
         f"{RESOURCES}::test_many_idle_connections_beyond_the_limit_leave_room_for_work",
         f"{RESOURCES}::test_a_machine_that_cannot_start_processes_fails_or_delays_the_run"),
        (f"{RESOURCES}::test_few_descriptors_fail_or_delay_runs_and_never_the_daemon",
         f"{RESOURCES}::test_many_idle_connections_beyond_the_limit_leave_room_for_work",
         f"{RESOURCES}::test_a_machine_that_cannot_start_processes_fails_or_delays_the_run"),
        "the same",
    ),
    Row(
        "row21", "many short runs",
        "descriptors, threads, zombies back to where they were, memory < +5 MB",
        (f"{RESOURCES}::test_two_hundred_short_runs_leak_nothing",),
        (f"{RESOURCES}::test_ten_thousand_short_runs_leak_nothing",),
        "10,000 runs", 60 * MINUTE,
    ),
    Row(
        "row22", "database locked by another process, or unreadable",
        "waits, then a clear error; never a second database",
        (f"{DAMAGE}::test_a_locked_database_delays_and_loses_nothing",
         f"{DAMAGE}::test_a_database_locked_at_the_start_is_told_and_not_replaced",
         f"{DAMAGE}::test_a_database_that_cannot_be_read_is_an_error_and_never_made_anew"),
        (f"{DAMAGE}::test_a_locked_database_delays_and_loses_nothing",
         f"{DAMAGE}::test_a_database_locked_at_the_start_is_told_and_not_replaced"),
        "12 s and 25 s",
    ),
    Row(
        "clients", "random clients, disconnections and daemon kills",
        "every client ends with the same dense history",
        (f"{FOLLOWERS}::test_random_clients_all_see_the_same_dense_history",),
        (f"{FOLLOWERS}::test_many_clients_through_two_hundred_kills_see_the_same_history",),
        "20 clients, 200 kills",
    ),
    Row(
        "worktrees", "daemon killed at each step of a worktree: made, accepted, discarded; its database lost",
        "made anew, finished or taken back; changes neither lost nor merged twice",
        (WORKTREES,), (WORKTREES,), "all 10 cases",
    ),
    Row(
        "warm", "daemon, Claude and shims killed at random under a conversation on warm processes",
        "no prompt lost, doubled or forgotten",
        (f"{WARM}::test_no_prompt_is_lost_doubled_or_forgotten",),
        (f"{WARM}::test_no_prompt_is_lost_doubled_or_forgotten",), "the same",
    ),
    Row(
        "night", "random cancels, kills, answers, retries and deaths of the daemon, against a model",
        "nothing lost, nothing run twice without a retry on record, caps held",
        (NIGHT,), (NIGHT,), "20 nights", 40 * MINUTE,
    ),
)  # fmt: skip
