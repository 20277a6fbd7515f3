//! `INFO`: one function a section, in the order of Redis 7.0, with its field names.
//!
//! Fields of mechanisms that are not here stay, with the value that says so (0, or `no`): exporters read them.

use std::fmt::Write as _;

use log::DiskState;
use replication::{FullSyncs, Millis};

use crate::commands::registry;
use crate::core::Core;
use crate::env::ProcessFacts;
use crate::evict;
use crate::load::Loading;
use crate::params::show_percentile;
use crate::pubsub::Kind;
use crate::session::Blocked;
use crate::store::Store;

/// Rows of the expiry index that `avg_ttl` looks at.
const TTL_SAMPLES: usize = 64;

/// What the sections are written from.
struct Subject<'a> {
    store: &'a Store,
    core: &'a Core,
    facts: ProcessFacts,
    memory: Memory,
    now_ms: i64,
    now: Millis,
}

type Section = fn(&Subject<'_>, &mut Page);

/// Name, heading, whether it is shown when nobody asks for a section, and what writes it.
const SECTIONS: &[(&str, &str, bool, Section)] = &[
    ("server", "Server", true, server),
    ("clients", "Clients", true, clients),
    ("memory", "Memory", true, memory),
    ("persistence", "Persistence", true, persistence),
    ("stats", "Stats", true, stats),
    ("replication", "Replication", true, replication),
    ("cpu", "CPU", true, cpu),
    ("modules", "Modules", true, modules),
    ("commandstats", "Commandstats", false, commandstats),
    ("errorstats", "Errorstats", true, errorstats),
    ("latencystats", "Latencystats", false, latencystats),
    ("cluster", "Cluster", true, cluster),
    ("keyspace", "Keyspace", true, keyspace),
];

/// The text of `INFO` with these sections; of the default ones if none is named.
pub fn text(store: &Store, core: &mut Core, sections: &[&[u8]]) -> String {
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let asked = |name: &str, default: bool| {
        let all = |word: &&[u8]| is(word, "all") || is(word, "everything");
        let named = |word: &&[u8]| {
            is(word, name)
                || (default && is(word, "default"))
                || (name == "modules" && is(word, "module_list"))
        };
        (sections.is_empty() && default) || sections.iter().any(|word| all(word) || named(word))
    };
    core.memory_peak_bytes = core.memory_peak_bytes.max(core.env.used_memory());
    // Before anything is written: the text itself is not what is asked for.
    let facts = core.env.process();
    let memory = Memory::new(store, core, &facts);
    let (now_ms, now) = (core.env.unix_ms(), core.monotonic());
    let subject = Subject { store, core, facts, memory, now_ms, now };
    let mut page = Page(String::with_capacity(4096));
    for (name, heading, default, write) in SECTIONS {
        if asked(name, *default) {
            if !page.0.is_empty() {
                page.0.push_str("\r\n");
            }
            write!(page.0, "# {heading}\r\n").expect("a string takes any text");
            write(&subject, &mut page);
        }
    }
    page.0
}

/// The lines written so far.
struct Page(String);

impl Page {
    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        write!(self.0, "{name}:{value}\r\n").expect("a string takes any text");
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.field(name, u8::from(value));
    }

    fn decimals(&mut self, name: &str, value: f64) {
        self.field(name, format_args!("{value:.2}"));
    }

    fn seconds(&mut self, name: &str, micros: u64) {
        self.field(name, format_args!("{}.{:06}", micros / 1_000_000, micros % 1_000_000));
    }

    /// Fields of mechanisms that are not here.
    fn zeros(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.field(name, 0));
    }

    /// A number of bytes, and the same for people to read.
    fn bytes(&mut self, name: &str, bytes: u64) {
        self.field(name, bytes);
        self.field(&format!("{name}_human"), human(bytes));
    }
}

/// `1.50M` and its like.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let exponent = (63 - bytes.leading_zeros()) / 10;
    format!("{:.2}{}", bytes as f64 / 1024f64.powi(exponent as i32), UNITS[exponent as usize - 1])
}

/// Where memory goes, in bytes.
pub(crate) struct Memory {
    pub used: u64,
    pub peak: u64,
    pub startup: u64,
    pub log: log::LogMemory,
    /// Buffers of all connections but the replicas'.
    pub clients: usize,
    /// All that is not data.
    pub overhead: u64,
    pub dataset: u64,
    /// What the operating system counts.
    pub rss: u64,
    pub active: u64,
    pub resident: u64,
}

impl Memory {
    pub fn new(store: &Store, core: &Core, facts: &ProcessFacts) -> Memory {
        let used = core.env.used_memory();
        let log = core.repl.log.memory(!core.repl.replicas.is_empty());
        let clients: usize = core
            .conns
            .iter()
            .filter(|(_, conn)| !conn.session.is_replica())
            .map(|(_, conn)| conn.input.capacity() + conn.output.memory() + size_of_val(conn))
            .sum::<usize>()
            + core.shared_input_bytes;
        let tables: usize = (0..store.databases()).map(|index| store.db_at(index).overhead_bytes()).sum();
        let overhead = facts.startup_bytes + (log.total + clients + tables) as u64;
        let or_used = |bytes: u64| if bytes == 0 { used } else { bytes };
        Memory {
            used,
            peak: core.memory_peak_bytes.max(used),
            startup: facts.startup_bytes,
            log,
            clients,
            overhead,
            dataset: used.saturating_sub(overhead),
            rss: or_used(facts.rss_bytes),
            active: or_used(facts.allocator_active_bytes),
            // The allocator is built without the counters that would say; redis takes the process's then.
            resident: or_used(facts.rss_bytes),
        }
    }
}

pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn server(s: &Subject<'_>, page: &mut Page) {
    let (core, config) = (s.core, &s.core.config);
    let uptime_s = (s.now_ms - core.started_ms).max(0) / 1000;
    page.field("redis_version", crate::REDIS_VERSION);
    page.field("server_name", "kindred");
    page.field("kindred_version", env!("CARGO_PKG_VERSION"));
    page.field("redis_git_sha1", "00000000");
    page.field("redis_git_dirty", 0);
    page.field("redis_build_id", 0);
    page.field("redis_mode", "standalone");
    page.field("os", &s.facts.os);
    page.field("arch_bits", usize::BITS);
    page.field("monotonic_clock", &s.facts.monotonic_clock);
    page.field("multiplexing_api", &s.facts.multiplexer);
    page.field("atomicvar_api", "rust");
    page.field("gcc_version", "0.0.0");
    page.field("process_id", core.env.process_id());
    page.field("process_supervised", "no");
    page.field("run_id", &core.run_id);
    page.field("tcp_port", config.main_port());
    page.field("server_time_usec", s.now_ms * 1000);
    page.field("uptime_in_seconds", uptime_s);
    page.field("uptime_in_days", uptime_s / 86_400);
    page.field("hz", config.hz);
    page.field("configured_hz", config.hz);
    page.field("lru_clock", s.store.access.seconds());
    page.field("executable", &s.facts.executable);
    let file = core.config_file.as_ref().map(|path| path.to_string_lossy()).unwrap_or_default();
    page.field("config_file", file);
    page.field("io_threads_active", 0);
    if let Some(waiting) = &core.shutdown {
        page.field("shutdown_in_milliseconds", waiting.left_ms(s.now_ms));
    }
}

fn clients(s: &Subject<'_>, page: &mut Page) {
    let conns = &s.core.conns;
    let largest_input = conns.iter().map(|(_, conn)| conn.input.len()).max().unwrap_or(0);
    let largest_output = conns.iter().map(|(_, conn)| conn.output.memory()).max().unwrap_or(0);
    let blocked = conns.iter().filter(|(_, conn)| conn.session.blocked.is_some()).count();
    let with_deadline =
        conns.iter().filter(|(_, conn)| matches!(conn.session.blocked, Some(Blocked::Wait))).count();
    page.field("connected_clients", conns.len() - s.core.repl.replicas.len());
    page.field("cluster_connections", 0);
    page.field("maxclients", s.core.config.maxclients);
    page.field("client_recent_max_input_buffer", largest_input);
    page.field("client_recent_max_output_buffer", largest_output);
    page.field("blocked_clients", blocked);
    page.field("tracking_clients", 0);
    page.field("pubsub_clients", s.core.pubsub.clients());
    page.field("clients_in_timeout_table", with_deadline + s.store.key_waits.with_deadline());
}

fn memory(s: &Subject<'_>, page: &mut Page) {
    let core = s.core;
    let Memory { used, peak, startup, log, clients, overhead, dataset, rss, active, resident } = s.memory;
    page.bytes("used_memory", used);
    page.bytes("used_memory_rss", rss);
    page.bytes("used_memory_peak", peak);
    page.field("used_memory_peak_perc", format_args!("{:.2}%", ratio(used, peak) * 100.0));
    page.field("used_memory_overhead", overhead);
    page.field("used_memory_startup", startup);
    page.field("used_memory_dataset", dataset);
    let dataset_share = ratio(dataset, used.saturating_sub(startup)).min(1.0);
    page.field("used_memory_dataset_perc", format_args!("{:.2}%", dataset_share * 100.0));
    page.field("allocator_allocated", used);
    page.field("allocator_active", active);
    page.field("allocator_resident", resident);
    page.bytes("total_system_memory", s.facts.system_memory_bytes);
    page.zeros(&["used_memory_lua", "used_memory_vm_eval"]);
    page.field("used_memory_lua_human", "0B");
    page.zeros(&["used_memory_scripts_eval", "number_of_cached_scripts", "number_of_functions"]);
    page.field("number_of_libraries", s.store.functions.len());
    page.zeros(&["used_memory_vm_functions"]);
    page.bytes("used_memory_vm_total", 0);
    page.field("used_memory_functions", s.store.functions.bytes());
    page.bytes("used_memory_scripts", 0);
    page.bytes("maxmemory", core.config.maxmemory.max(0) as u64);
    page.field("maxmemory_policy", core.config.maxmemory_policy.name());
    let beyond = |large: u64, small: u64| large as i64 - small as i64;
    page.decimals("allocator_frag_ratio", ratio(active, used));
    page.field("allocator_frag_bytes", active.saturating_sub(used));
    page.decimals("allocator_rss_ratio", ratio(resident, active));
    page.field("allocator_rss_bytes", beyond(resident, active));
    page.decimals("rss_overhead_ratio", ratio(rss, resident));
    page.field("rss_overhead_bytes", beyond(rss, resident));
    page.decimals("mem_fragmentation_ratio", ratio(rss, used));
    page.field("mem_fragmentation_bytes", beyond(rss, used));
    page.field("mem_not_counted_for_evict", evict::not_counted_bytes(s.store, core));
    page.field("mem_replication_backlog", log.backlog);
    page.field("mem_total_replication_buffers", log.total);
    page.field("mem_clients_slaves", log.replicas);
    page.field("mem_clients_normal", clients);
    page.zeros(&["mem_cluster_links", "mem_aof_buffer"]);
    page.field("mem_allocator", &s.facts.allocator);
    page.zeros(&["active_defrag_running"]);
    page.field("lazyfree_pending_objects", s.store.reclaim.pending());
    page.field("lazyfreed_objects", s.store.reclaim.freed());
}

fn persistence(s: &Subject<'_>, page: &mut Page) {
    let (core, snapshots) = (s.core, &s.core.snapshots);
    let status = |failed: bool| if failed { "err" } else { "ok" };
    page.flag("loading", core.is_loading());
    page.flag("async_loading", core.loading.is_some() && !core.is_loading());
    page.zeros(&["current_cow_peak", "current_cow_size", "current_cow_size_age"]);
    page.decimals("current_fork_perc", 0.0);
    page.zeros(&["current_save_keys_processed", "current_save_keys_total"]);
    page.field("rdb_changes_since_last_save", snapshots.changes_since_save(s.store.effects.dirty));
    page.flag("rdb_bgsave_in_progress", snapshots.is_running());
    page.field("rdb_last_save_time", snapshots.last_save_unix_s);
    page.field("rdb_last_bgsave_status", status(snapshots.last_save_failed));
    let never = snapshots.saves == 0 && !snapshots.last_save_failed && snapshots.last_duration_s == 0;
    page.field("rdb_last_bgsave_time_sec", if never { -1 } else { snapshots.last_duration_s });
    let current = snapshots.running.as_ref().map_or(-1, |run| (s.now_ms - run.started_ms) / 1000);
    page.field("rdb_current_bgsave_time_sec", current);
    page.field("rdb_saves", snapshots.saves);
    page.zeros(&["rdb_last_cow_size"]);
    page.field("rdb_last_load_keys_expired", snapshots.last_load_keys_expired);
    page.field("rdb_last_load_keys_loaded", snapshots.last_load_keys_loaded);
    page.zeros(&["aof_enabled", "aof_rewrite_in_progress", "aof_rewrite_scheduled"]);
    page.field("aof_last_rewrite_time_sec", -1);
    page.field("aof_current_rewrite_time_sec", -1);
    page.field("aof_last_bgrewrite_status", "ok");
    page.zeros(&["aof_rewrites", "aof_rewrites_consecutive_failures"]);
    page.field("aof_last_write_status", "ok");
    page.zeros(&["aof_last_cow_size", "module_fork_in_progress", "module_fork_last_cow_size"]);
    if let Some(loading) = &core.loading {
        load(s, loading, page);
    }
}

fn load(s: &Subject<'_>, loading: &Loading, page: &mut Page) {
    let (loaded, memory) = (loading.loaded_bytes(), loading.rdb_used_mem());
    // Without a size, the memory that the data took elsewhere is the best estimate there is.
    let total = loading.total_bytes().unwrap_or(0);
    let (percent, left) = match (total, memory) {
        (0, 0) => (0.0, 1),
        (0, memory) => ((ratio(loaded, memory) * 100.0).min(99.99), memory.saturating_sub(loaded).max(1)),
        (total, _) => (ratio(loaded, total) * 100.0, total.saturating_sub(loaded)),
    };
    let elapsed_s = (s.now_ms - loading.started_ms()).max(0) as u64 / 1000;
    page.field("loading_start_time", loading.started_ms() / 1000);
    page.field("loading_total_bytes", total);
    page.field("loading_rdb_used_mem", memory);
    page.field("loading_loaded_bytes", loaded);
    page.decimals("loading_loaded_perc", percent);
    page.field("loading_eta_seconds", if elapsed_s == 0 { 1 } else { elapsed_s * left / (loaded + 1) });
}

fn stats(s: &Subject<'_>, page: &mut Page) {
    let (stats, lookups) = (&s.core.stats, &s.store.stats);
    let kilobytes = |rate: &crate::stats::Rate| rate.per_second() as f64 / 1024.0;
    page.field("total_connections_received", stats.connections_received);
    page.field("total_commands_processed", stats.commands_processed);
    page.field("instantaneous_ops_per_sec", stats.ops.per_second());
    page.field("total_net_input_bytes", stats.net_input_bytes + stats.net_repl_input_bytes);
    page.field("total_net_output_bytes", stats.net_output_bytes + stats.net_repl_output_bytes);
    page.field("total_net_repl_input_bytes", stats.net_repl_input_bytes);
    page.field("total_net_repl_output_bytes", stats.net_repl_output_bytes);
    page.decimals("instantaneous_input_kbps", kilobytes(&stats.input));
    page.decimals("instantaneous_output_kbps", kilobytes(&stats.output));
    page.decimals("instantaneous_input_repl_kbps", kilobytes(&stats.repl_input));
    page.decimals("instantaneous_output_repl_kbps", kilobytes(&stats.repl_output));
    page.field("rejected_connections", stats.rejected_connections);
    page.field("sync_full", stats.sync_full);
    page.field("sync_partial_ok", stats.sync_partial_ok);
    page.field("sync_partial_err", stats.sync_partial_err);
    page.field("expired_keys", lookups.expired_keys);
    page.field("expired_subkeys", lookups.expired_fields);
    page.decimals("expired_stale_perc", 0.0);
    page.field("expired_time_cap_reached_count", stats.expired_time_cap_reached);
    page.zeros(&["expire_cycle_cpu_milliseconds"]);
    page.field("evicted_keys", lookups.evicted_keys);
    page.field("evicted_clients", stats.evicted_clients);
    let exceeded = s.core.eviction.exceeded(s.core.env.monotonic_us());
    page.field("total_eviction_exceeded_time", exceeded.total_us / 1000);
    page.field("current_eviction_exceeded_time", exceeded.current_us / 1000);
    page.field("keyspace_hits", lookups.keyspace_hits);
    page.field("keyspace_misses", lookups.keyspace_misses);
    let pubsub = &s.core.pubsub;
    page.field("pubsub_channels", pubsub.len(Kind::Channel));
    page.field("pubsub_patterns", pubsub.len(Kind::Pattern));
    page.field("pubsubshard_channels", pubsub.len(Kind::Shard));
    page.zeros(&["latest_fork_usec", "total_forks"]);
    page.field("migrate_cached_sockets", s.core.migrations.cached_sockets);
    page.field("slave_expires_tracked_keys", s.store.own_expiries.len());
    page.zeros(&[
        "active_defrag_hits",
        "active_defrag_misses",
        "active_defrag_key_hits",
        "active_defrag_key_misses",
        "total_active_defrag_time",
        "current_active_defrag_time",
        "tracking_total_keys",
        "tracking_total_items",
        "tracking_total_prefixes",
    ]);
    page.field("unexpected_error_replies", stats.unexpected_error_replies);
    page.field("total_error_replies", stats.error_replies);
    page.field("dump_payload_sanitizations", stats.dump_payload_sanitizations);
    page.field("total_reads_processed", stats.reads_processed);
    page.field("total_writes_processed", stats.writes_processed);
    page.zeros(&["io_threaded_reads_processed", "io_threaded_writes_processed"]);
    page.field("client_query_buffer_limit_disconnections", stats.client_query_buffer_limit_disconnections);
    page.field("client_output_buffer_limit_disconnections", stats.client_output_buffer_limit_disconnections);
    page.zeros(&["reply_buffer_shrinks", "reply_buffer_expands"]);
}

fn replication(s: &Subject<'_>, page: &mut Page) {
    let (core, config, repl) = (s.core, &s.core.config, &s.core.repl);
    page.field("role", if repl.is_replica() { "slave" } else { "master" });
    if repl.following.is_some() {
        primary_of_ours(s, page);
    }
    page.field("connected_slaves", core.known_replicas().count());
    if config.min_replicas_to_write > 0 && config.min_replicas_max_lag_s > 0 {
        page.field("min_slaves_good_slaves", repl.good_replicas);
    }
    let shown = core.replica_links().filter_map(|link| Some((link, link.info_state()?)));
    for (index, (link, state)) in shown.enumerate() {
        page.field(
            &format!("slave{index}"),
            format_args!(
                "ip={},port={},state={state},offset={},lag={}",
                link.ip(),
                link.listening_port(),
                link.acknowledged().offset,
                link.lag(s.now).secs(),
            ),
        );
    }
    let window = repl.log.window();
    page.field("master_failover_state", repl.failover.name());
    page.field("master_replid", repl.history.id);
    page.field("master_replid2", repl.history.second_id());
    page.field("master_repl_offset", repl.offset());
    page.field("second_repl_offset", repl.history.second_offset());
    page.flag("repl_backlog_active", window.is_some());
    page.field("repl_backlog_size", repl.log.capacity());
    page.field("repl_backlog_first_byte_offset", window.map_or(0, |window| window.first));
    page.field("repl_backlog_histlen", window.map_or(0, |window| window.len));
    how_far_behind(s, page);
}

/// Kindred's own fields, in lines of their own behind those of Redis.
fn how_far_behind(s: &Subject<'_>, page: &mut Page) {
    let (core, repl) = (s.core, &s.core.repl);
    let (first, end) = (repl.log.start(), repl.log.end());
    let window = if end < first { None } else { repl.marks.lag(s.now, first - 1, end) };
    page.field("repl_backlog_seconds", window.map_or(-1, |window| window.secs() as i64));
    page.field("repl_backlog_disk_size", core.config.repl_backlog_disk_size);
    page.field("repl_backlog_disk_histlen", repl.log.disk_bytes());
    let disk = match repl.log.disk_state() {
        _ if core.config.repl_backlog_disk_size == 0 && core.config.repl_lag_disk_size == 0 => "off",
        DiskState::Works => "ok",
        DiskState::Failed => "failed",
        DiskState::Behind => "too-slow",
    };
    page.field("repl_backlog_disk_status", disk);
    page.field("repl_log_bytes_per_sec", repl.marks.bytes_per_second(s.now));
    let or_unknown = |span: Option<Millis>| span.map_or(-1, |span| span.0 as i64);
    let shown = core.replica_links().filter(|link| link.info_state().is_some());
    for (index, link) in shown.enumerate() {
        let acknowledged = link.acknowledged().offset;
        let lag = link.is_online().then(|| repl.marks.lag(s.now, acknowledged, end)).flatten();
        page.field(
            &format!("repl_replica{index}"),
            format_args!(
                "ip={},port={},lag_ms={},lag_bytes={},unsent_bytes={}",
                link.ip(),
                link.listening_port(),
                or_unknown(lag),
                end.saturating_sub(acknowledged),
                link.backlog_bytes(end),
            ),
        );
    }
    if let Some(following) = &repl.following {
        let link = following.link.info(s.now);
        page.field("repl_lag_ms", or_unknown(repl.heard.map(|heard| heard.lag)));
        page.field("repl_staleness_ms", or_unknown(repl.heard.map(|heard| heard.staleness(s.now_ms))));
        page.field("repl_lag_bytes", link.read_offset.saturating_sub(link.applied_offset));
        page.field("repl_apply_commands_per_sec", core.stats.applied.per_second());
        page.field("repl_apply_bytes_per_sec", repl.marks.bytes_per_second(s.now));
        if let Some(sync) = &link.sync {
            page.field("repl_sync_eta_seconds", sync.eta_seconds.map_or(-1, |seconds| seconds as i64));
        }
        let guarded = following.link.guarded();
        let status = match guarded {
            Some(_) => "holding",
            None if core.config.replica_guard_empty_primary => "on",
            None => "off",
        };
        page.field("repl_guard", status);
        if let Some(guarded) = guarded {
            page.field("repl_guard_seconds", s.now.since(guarded.since).secs());
            page.field("repl_guard_reason", guarded);
        }
    }
    page.field("repl_refused_replicas", repl.refusals.iter().len());
    page.field("repl_refusals", repl.refusals.total());
    if let Some(refused) = repl.refusals.iter().next() {
        page.field("repl_refused_last", format_args!("{}: {}", refused.replica, refused.refusal));
    }
    let places = core.places();
    page.field("repl_full_syncs_running", places.taken);
    page.field("repl_full_syncs_queued", places.queued());
    full_syncs(page, "repl_full_syncs_served", &repl.served);
    full_syncs(page, "repl_full_syncs_received", &repl.received);
}

fn full_syncs(page: &mut Page, name: &str, syncs: &FullSyncs) {
    page.field(name, syncs.total());
    if let Some(last) = syncs.last().next() {
        let counts: Vec<String> =
            syncs.counts().map(|(cause, count)| format!("{}={count}", cause.name())).collect();
        page.field(&format!("{name}_causes"), counts.join(","));
        page.field(&format!("{name}_last"), &last.sync);
    }
}

fn primary_of_ours(s: &Subject<'_>, page: &mut Page) {
    let Some(following) = &s.core.repl.following else { return };
    let (config, link) = (&s.core.config, following.link.info(s.now));
    page.field("master_host", &following.host);
    page.field("master_port", following.port);
    page.field("master_link_status", if link.up { "up" } else { "down" });
    page.field("master_last_io_seconds_ago", link.last_io_seconds_ago);
    page.flag("master_sync_in_progress", link.sync.is_some());
    page.field("slave_read_repl_offset", link.read_offset);
    page.field("slave_repl_offset", link.applied_offset);
    let waiting = following.waiting();
    if config.dual_channel_replication {
        page.field("replicas_repl_buffer_size", waiting.bytes());
        page.field("replicas_repl_buffer_peak", waiting.peak());
    }
    if config.repl_rdb_channel {
        page.field("replica_full_sync_buffer_size", waiting.bytes());
        page.field("replica_full_sync_buffer_peak", waiting.peak());
    }
    if let Some(sync) = &link.sync {
        page.field("master_sync_total_bytes", sync.total_bytes);
        page.field("master_sync_read_bytes", sync.read_bytes);
        page.field("master_sync_left_bytes", sync.left_bytes);
        page.decimals("master_sync_perc", sync.percent);
        page.field("master_sync_last_io_seconds_ago", sync.last_io_seconds_ago);
    }
    if !link.up {
        page.field("master_link_down_since_seconds", link.down_since_seconds);
    }
    page.field("slave_priority", config.replica_priority);
    page.flag("slave_read_only", config.replica_read_only);
    page.flag("replica_announced", config.replica_announced);
}

fn cpu(s: &Subject<'_>, page: &mut Page) {
    let cpu = s.facts.cpu;
    page.seconds("used_cpu_sys", cpu.system_us);
    page.seconds("used_cpu_user", cpu.user_us);
    page.seconds("used_cpu_sys_children", cpu.system_children_us);
    page.seconds("used_cpu_user_children", cpu.user_children_us);
    page.seconds("used_cpu_sys_main_thread", cpu.system_main_thread_us);
    page.seconds("used_cpu_user_main_thread", cpu.user_main_thread_us);
}

fn modules(_: &Subject<'_>, _: &mut Page) {}

fn commandstats(s: &Subject<'_>, page: &mut Page) {
    for (entry, stats) in registry().entries().iter().zip(&s.core.stats.commands) {
        if stats.calls + stats.failed + stats.rejected > 0 {
            let per_call = if stats.calls == 0 { 0.0 } else { stats.micros as f64 / stats.calls as f64 };
            page.field(
                &format!("cmdstat_{}", entry.full_name),
                format_args!(
                    "calls={},usec={},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
                    stats.calls, stats.micros, stats.rejected, stats.failed
                ),
            );
        }
    }
}

fn errorstats(s: &Subject<'_>, page: &mut Page) {
    for (code, count) in &s.core.stats.errors {
        let code: String = code.chars().map(|c| if "#:\n\r".contains(c) { '_' } else { c }).collect();
        page.field(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

fn latencystats(s: &Subject<'_>, page: &mut Page) {
    if !s.core.config.latency_tracking {
        return;
    }
    for (entry, stats) in registry().entries().iter().zip(&s.core.stats.commands) {
        if let Some(histogram) = &stats.latency {
            let rows = s.core.config.latency_percentiles.iter();
            let rows =
                rows.map(|p| format!("p{}={:.3}", show_percentile(*p), histogram.percentile(*p) as f64));
            page.field(
                &format!("latency_percentiles_usec_{}", entry.full_name),
                rows.collect::<Vec<_>>().join(","),
            );
        }
    }
}

fn cluster(_: &Subject<'_>, page: &mut Page) {
    page.field("cluster_enabled", 0);
}

fn keyspace(s: &Subject<'_>, page: &mut Page) {
    for index in 0..s.store.databases() {
        let db = s.store.db_at(index);
        if !db.is_empty() {
            page.field(
                &format!("db{index}"),
                format_args!(
                    "keys={},expires={},avg_ttl={}{}",
                    db.len(),
                    db.expires().len(),
                    db.expires().average_ttl_ms(s.now_ms, TTL_SAMPLES),
                    subexpiry(db.hashes_with_ttl())
                ),
            );
        }
    }
}

/// What Redis 8 adds for hashes whose fields have an expiry. Redis 7.2 does not know it: it is left out where there are
/// none.
fn subexpiry(hashes: usize) -> String {
    if hashes == 0 { String::new() } else { format!(",subexpiry={hashes}") }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::human;
    use crate::testing::Harness;

    fn info(h: &mut Harness, sections: &str) -> String {
        let words: Vec<&[u8]> =
            ["INFO"].into_iter().chain(sections.split_whitespace()).map(str::as_bytes).collect();
        String::from_utf8(h.run_args(&words)).unwrap()
    }

    fn names(text: &str) -> String {
        let lines = text.lines().skip(1).filter(|line| !line.is_empty());
        let names =
            lines.map(|line| if line.starts_with('#') { line } else { line.split(':').next().unwrap() });
        names.collect::<Vec<_>>().join("\n") + "\n"
    }

    /// The fields of redis 7.0.15, with those of Kindred beside them, in order.
    #[test]
    fn fields_and_their_order() {
        let mut h = Harness::new();
        let text = names(&info(&mut h, ""));
        expect![[r#"
            # Server
            redis_version
            server_name
            kindred_version
            redis_git_sha1
            redis_git_dirty
            redis_build_id
            redis_mode
            os
            arch_bits
            monotonic_clock
            multiplexing_api
            atomicvar_api
            gcc_version
            process_id
            process_supervised
            run_id
            tcp_port
            server_time_usec
            uptime_in_seconds
            uptime_in_days
            hz
            configured_hz
            lru_clock
            executable
            config_file
            io_threads_active
            # Clients
            connected_clients
            cluster_connections
            maxclients
            client_recent_max_input_buffer
            client_recent_max_output_buffer
            blocked_clients
            tracking_clients
            pubsub_clients
            clients_in_timeout_table
            # Memory
            used_memory
            used_memory_human
            used_memory_rss
            used_memory_rss_human
            used_memory_peak
            used_memory_peak_human
            used_memory_peak_perc
            used_memory_overhead
            used_memory_startup
            used_memory_dataset
            used_memory_dataset_perc
            allocator_allocated
            allocator_active
            allocator_resident
            total_system_memory
            total_system_memory_human
            used_memory_lua
            used_memory_vm_eval
            used_memory_lua_human
            used_memory_scripts_eval
            number_of_cached_scripts
            number_of_functions
            number_of_libraries
            used_memory_vm_functions
            used_memory_vm_total
            used_memory_vm_total_human
            used_memory_functions
            used_memory_scripts
            used_memory_scripts_human
            maxmemory
            maxmemory_human
            maxmemory_policy
            allocator_frag_ratio
            allocator_frag_bytes
            allocator_rss_ratio
            allocator_rss_bytes
            rss_overhead_ratio
            rss_overhead_bytes
            mem_fragmentation_ratio
            mem_fragmentation_bytes
            mem_not_counted_for_evict
            mem_replication_backlog
            mem_total_replication_buffers
            mem_clients_slaves
            mem_clients_normal
            mem_cluster_links
            mem_aof_buffer
            mem_allocator
            active_defrag_running
            lazyfree_pending_objects
            lazyfreed_objects
            # Persistence
            loading
            async_loading
            current_cow_peak
            current_cow_size
            current_cow_size_age
            current_fork_perc
            current_save_keys_processed
            current_save_keys_total
            rdb_changes_since_last_save
            rdb_bgsave_in_progress
            rdb_last_save_time
            rdb_last_bgsave_status
            rdb_last_bgsave_time_sec
            rdb_current_bgsave_time_sec
            rdb_saves
            rdb_last_cow_size
            rdb_last_load_keys_expired
            rdb_last_load_keys_loaded
            aof_enabled
            aof_rewrite_in_progress
            aof_rewrite_scheduled
            aof_last_rewrite_time_sec
            aof_current_rewrite_time_sec
            aof_last_bgrewrite_status
            aof_rewrites
            aof_rewrites_consecutive_failures
            aof_last_write_status
            aof_last_cow_size
            module_fork_in_progress
            module_fork_last_cow_size
            # Stats
            total_connections_received
            total_commands_processed
            instantaneous_ops_per_sec
            total_net_input_bytes
            total_net_output_bytes
            total_net_repl_input_bytes
            total_net_repl_output_bytes
            instantaneous_input_kbps
            instantaneous_output_kbps
            instantaneous_input_repl_kbps
            instantaneous_output_repl_kbps
            rejected_connections
            sync_full
            sync_partial_ok
            sync_partial_err
            expired_keys
            expired_subkeys
            expired_stale_perc
            expired_time_cap_reached_count
            expire_cycle_cpu_milliseconds
            evicted_keys
            evicted_clients
            total_eviction_exceeded_time
            current_eviction_exceeded_time
            keyspace_hits
            keyspace_misses
            pubsub_channels
            pubsub_patterns
            pubsubshard_channels
            latest_fork_usec
            total_forks
            migrate_cached_sockets
            slave_expires_tracked_keys
            active_defrag_hits
            active_defrag_misses
            active_defrag_key_hits
            active_defrag_key_misses
            total_active_defrag_time
            current_active_defrag_time
            tracking_total_keys
            tracking_total_items
            tracking_total_prefixes
            unexpected_error_replies
            total_error_replies
            dump_payload_sanitizations
            total_reads_processed
            total_writes_processed
            io_threaded_reads_processed
            io_threaded_writes_processed
            client_query_buffer_limit_disconnections
            client_output_buffer_limit_disconnections
            reply_buffer_shrinks
            reply_buffer_expands
            # Replication
            role
            connected_slaves
            master_failover_state
            master_replid
            master_replid2
            master_repl_offset
            second_repl_offset
            repl_backlog_active
            repl_backlog_size
            repl_backlog_first_byte_offset
            repl_backlog_histlen
            repl_backlog_seconds
            repl_backlog_disk_size
            repl_backlog_disk_histlen
            repl_backlog_disk_status
            repl_log_bytes_per_sec
            repl_refused_replicas
            repl_refusals
            repl_full_syncs_running
            repl_full_syncs_queued
            repl_full_syncs_served
            repl_full_syncs_received
            # CPU
            used_cpu_sys
            used_cpu_user
            used_cpu_sys_children
            used_cpu_user_children
            used_cpu_sys_main_thread
            used_cpu_user_main_thread
            # Modules
            # Errorstats
            # Cluster
            cluster_enabled
            # Keyspace
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn sections_are_chosen_by_name() {
        let mut h = Harness::new();
        let headings = |text: String| {
            text.lines().filter_map(|line| line.strip_prefix("# ")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(headings(info(&mut h, "CPU cluster nope")), "CPU Cluster");
        let default =
            "Server Clients Memory Persistence Stats Replication CPU Modules Errorstats Cluster Keyspace";
        let all = "Server Clients Memory Persistence Stats Replication CPU Modules Commandstats Errorstats \
                   Latencystats Cluster Keyspace";
        assert_eq!(headings(info(&mut h, "")), default);
        assert_eq!(headings(info(&mut h, "default")), default);
        assert_eq!(headings(info(&mut h, "all")), all);
        assert_eq!(headings(info(&mut h, "everything")), all);
        assert_eq!(
            headings(info(&mut h, "default commandstats")),
            default.replace("Errorstats", "Commandstats Errorstats")
        );
        assert_eq!(info(&mut h, "nope"), "$0\r\n\r\n");
    }

    #[test]
    fn commands_errors_and_latencies_are_counted() {
        let mut h = Harness::new();
        h.run("GET a");
        h.run("GET");
        h.run("NOSUCH");
        h.run("AUTH x");
        let text = info(&mut h, "commandstats");
        assert!(
            text.contains(
                "cmdstat_get:calls=1,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0\r\n"
            )
        );
        assert!(
            text.contains(
                "cmdstat_auth:calls=1,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=1\r\n"
            )
        );
        assert!(info(&mut h, "errorstats").contains("errorstat_ERR:count=3\r\n"));
        assert!(
            info(&mut h, "latencystats")
                .contains("latency_percentiles_usec_get:p50=0.000,p99=0.000,p99.9=0.000\r\n")
        );
        h.run("CONFIG SET latency-tracking no");
        assert!(!info(&mut h, "latencystats").contains("percentiles"));
        h.run("CONFIG RESETSTAT");
        assert!(!info(&mut h, "commandstats").contains("cmdstat_get"));
        assert!(!info(&mut h, "errorstats").contains("errorstat"));
    }

    #[test]
    fn keys_and_expiries_of_each_database() {
        let mut h = Harness::new();
        h.run("DEBUG POPULATE 10");
        h.run("SELECT 3");
        h.run("DEBUG POPULATE 2");
        let text = info(&mut h, "keyspace");
        assert!(text.ends_with(
            "# Keyspace\r\ndb0:keys=10,expires=0,avg_ttl=0\r\ndb3:keys=2,expires=0,avg_ttl=0\r\n\r\n"
        ));
    }

    #[test]
    fn bytes_for_people() {
        for (bytes, text) in
            [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1 << 20, "1.00M"), (3 << 29, "1.50G")]
        {
            assert_eq!(human(bytes), text);
        }
    }
}
