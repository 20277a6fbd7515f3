//! The view on a terminal, and as plain lines.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};

use crate::view::{Lag, Link, NodeView, Role, State, View};

const HEADER: [&str; 9] = ["NODE", "ADDRESS", "ROLE", "LINK", "OFFSET", "LAG", "OPS/S", "MEMORY", "CLIENTS"];

/// What stands under the live view.
pub const KEYS: &str = "q or Ctrl-C: stop all   r: restart what ended";

/// Draws the whole view: a row per node, the last log line of each, the newest events, the keys.
pub fn draw(frame: &mut Frame<'_>, view: &View, footer: &str) {
    let rows = view.nodes.len() as u16;
    let areas = Layout::vertical([
        Constraint::Length(rows + 3),
        Constraint::Length(rows + 2),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .split(frame.area());

    let cells: Vec<[String; 9]> = view.nodes.iter().map(cells).collect();
    let widths = (0..HEADER.len()).map(|column| {
        let widest = cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        Constraint::Length(widest.max(HEADER[column].len()) as u16)
    });
    let table_rows = view.nodes.iter().zip(&cells).map(|(node, cells)| {
        let cells = cells.iter().enumerate().map(|(column, text)| {
            let style = if column == 3 { Style::new().fg(color(node)) } else { Style::new() };
            Cell::from(text.as_str()).style(style)
        });
        Row::new(cells)
    });
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let table = Table::new(table_rows, widths.collect::<Vec<_>>())
        .header(Row::new(HEADER).style(bold))
        .block(Block::bordered().title(" kindred up "));
    frame.render_widget(table, areas[0]);

    let name_width = view.nodes.iter().map(|n| n.name.chars().count()).max().unwrap_or(0);
    let logs: Vec<Line<'_>> = view
        .nodes
        .iter()
        .map(|n| Line::from(format!("{:name_width$}  {}", n.name, n.last_message())))
        .collect();
    frame.render_widget(Paragraph::new(logs).block(Block::bordered().title(" last log line ")), areas[1]);

    let room = areas[2].height.saturating_sub(2) as usize;
    let skipped = view.events.len().saturating_sub(room);
    let events: Vec<Line<'_>> = view
        .events
        .iter()
        .skip(skipped)
        .map(|e| Line::from(format!("{}  {}", clock(e.at), e.text)))
        .collect();
    frame.render_widget(Paragraph::new(events).block(Block::bordered().title(" events ")), areas[2]);
    frame.render_widget(Paragraph::new(footer), areas[3]);
}

/// All nodes in one line, for a log or a pipe: `name address role link key=value … | …`.
pub fn plain_line(at: u64, view: &View) -> String {
    let nodes: Vec<String> = view.nodes.iter().map(plain_node).collect();
    format!("{} {}", clock(at), nodes.join(" | "))
}

fn plain_node(node: &NodeView) -> String {
    let condition = node.condition().replace(' ', "_");
    let mut text = format!("{} {} {} {condition}", node.name, node.address, role(node));
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {name}={value}"));
        }
    };
    field("offset", node.offset.map(|n| n.to_string()));
    field("lag_bytes", node.lag.map(|lag| lag.bytes.to_string()));
    field("lag_ms", node.lag.map(|lag| format!("{}{}", if lag.is_longer { ">" } else { "" }, lag.ms)));
    field("ops", node.ops_per_second.map(|n| n.to_string()));
    field("memory", node.memory_bytes.map(|n| n.to_string()));
    field("clients", node.clients.map(|n| n.to_string()));
    text
}

/// Time since the start, as `H:MM:SS`.
pub fn clock(ms: u64) -> String {
    let seconds = ms / 1000;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn cells(node: &NodeView) -> [String; 9] {
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    [
        node.name.clone(),
        node.address.clone(),
        role(node).to_owned(),
        node.condition(),
        number(node.offset),
        node.lag.map_or("-".to_owned(), lag),
        number(node.ops_per_second),
        node.memory_bytes.map_or("-".to_owned(), size),
        number(node.clients),
    ]
}

fn role(node: &NodeView) -> &'static str {
    match node.role {
        Some(Role::Primary) => "primary",
        Some(Role::Replica) => "replica",
        None => "-",
    }
}

fn lag(lag: Lag) -> String {
    let longer = if lag.is_longer { ">" } else { "" };
    let time = if lag.ms < 10_000 { format!("{} ms", lag.ms) } else { format!("{} s", lag.ms / 1000) };
    format!("{}, {longer}{time}", size(lag.bytes))
}

/// Bytes with at most one digit after the point, in powers of 1024.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

fn color(node: &NodeView) -> Color {
    match (&node.state, node.link) {
        (State::Exited(_) | State::Unreachable(_), _) | (State::Up, Some(Link::Down { .. })) => Color::Red,
        (State::Starting, _) | (State::Up, Some(Link::Syncing { .. })) => Color::Yellow,
        (State::Up, None | Some(Link::Up)) => Color::Green,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info::Info;
    use crate::view::Observation;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn view() -> View {
        let nodes =
            [("primary", "127.0.0.1:6379"), ("replica-1", "127.0.0.1:6380"), ("replica-2", "127.0.0.1:6381")];
        let mut view = View::new(nodes.map(|(n, a)| (n.to_owned(), a.to_owned())), true);
        let info = |text: &str| Info::parse(&text.replace(' ', "\n"));
        let primary = info(
            "role:master master_repl_offset:2048 instantaneous_ops_per_sec:12 used_memory:1572864 connected_clients:4",
        );
        view.observe(1000, 0, Observation::Info { info: primary, primary_offset: None });
        let replica = info("role:slave slave_repl_offset:1024 master_link_status:up used_memory:1024");
        view.observe(2500, 1, Observation::Info { info: replica, primary_offset: Some(2048) });
        view.observe(2600, 1, Observation::Log("9:S 22 Nov 2026 04:00:00.000 * Ready".to_owned()));
        view.observe(3000, 2, Observation::Exited("exit status 1".to_owned()));
        view
    }

    fn drawn(width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &view(), KEYS)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(row).collect()
    }

    #[test]
    fn the_terminal_shows_every_node_its_log_and_the_events() {
        let lines = drawn(100, 20);
        let squeezed: Vec<String> =
            lines.iter().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for expected in [
            "│NODE ADDRESS ROLE LINK OFFSET LAG OPS/S MEMORY CLIENTS │",
            "│primary 127.0.0.1:6379 primary up 2048 - 12 1.5 M 4 │",
            "│replica-1 127.0.0.1:6380 replica up 1024 1.0 K, >1500 ms - 1.0 K - │",
            "│replica-2 127.0.0.1:6381 - dead - - - - - │",
            "│replica-1 Ready │",
            "│0:00:03 replica-2: ended: exit status 1 │",
            KEYS.split_whitespace().collect::<Vec<_>>().join(" ").as_str(),
        ] {
            assert!(squeezed.iter().any(|l| l == expected), "{expected:?} is not in\n{}", lines.join("\n"));
        }
    }

    #[test]
    fn any_size_of_terminal_can_be_drawn() {
        for (width, height) in [(1, 1), (10, 3), (40, 8), (80, 24), (300, 80)] {
            assert_eq!(drawn(width, height).len(), height as usize);
        }
    }

    #[test]
    fn a_plain_line_says_the_same_for_programs() {
        assert_eq!(
            plain_line(3000, &view()),
            "0:00:03 primary 127.0.0.1:6379 primary up offset=2048 ops=12 memory=1572864 clients=4 | \
             replica-1 127.0.0.1:6380 replica up offset=1024 lag_bytes=1024 lag_ms=>1500 memory=1024 | \
             replica-2 127.0.0.1:6381 - dead"
        );
    }

    #[test]
    fn sizes_are_short() {
        let seen: Vec<_> =
            [0, 1023, 1024, 1 << 20, (3 << 30) / 2, 1 << 60].iter().map(|n| size(*n)).collect();
        assert_eq!(seen, ["0 B", "1023 B", "1.0 K", "1.0 M", "1.5 G", "1048576.0 T"]);
    }
}
