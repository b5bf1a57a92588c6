//! The terminal of `top` and `report --tui`: who owns it while screens are shown, and gives it back on every way out.
//!
//! Three threads: this one draws and obeys keys and signals; one waits for keys; one, the caller's, makes pages. So a key is
//! answered at once, however long a page takes. The screen is redrawn ten times a second at most, but at once after a key.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select, unbounded};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::{cursor, execute, terminal};
use xprof_backend::sys::signal::{self, Signal};
use xprof_ui::screen::{Action, Ask, Key, Page, State, Status};

use crate::exit::Failure;
use crate::record::control::{Ends, Listener};

/// Signals that end it.
const SIGNALS: [Signal; 3] = [Signal::Interrupt, Signal::Terminate, Signal::Hangup];
/// From one redrawing to the next, without a key.
const PAUSE: Duration = Duration::from_millis(100);
/// Nothing is to be drawn for so long, unless something comes.
const IDLE: Duration = Duration::from_secs(3600);
/// How often the thread that waits for keys looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the screens want of whoever makes pages. Its end means that nobody looks any more.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// From now on this is shown.
    Show(Ask),
    /// Forget what was counted.
    Zero,
    /// Count no more, or again.
    Freeze(bool),
}

/// What is told to the screens.
#[derive(Debug)]
pub(crate) enum News {
    /// An answer.
    Page(Ask, Box<Page>),
    /// The first line.
    Status(Status),
    /// It cannot go on.
    Failed(anyhow::Error),
}

/// The two ends that whoever makes pages has.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) requests: Receiver<Request>,
    pub(crate) news: Sender<News>,
}

/// Whether there is a terminal to draw on and to read keys from.
pub(crate) fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb")
}

/// Says that there is none, and what to type instead.
pub(crate) fn need_terminal(instead: &str) -> anyhow::Result<()> {
    if has_terminal() {
        return Ok(());
    }
    Err(Failure::usage(format!("standard input and output are no terminal (or TERM is dumb): {instead}")).into())
}

/// A terminal in raw mode on its other screen, until it is dropped.
struct Raw {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    /// What threads that do not draw said when they panicked: it is printed when the terminal is given back.
    panics: Arc<Mutex<Vec<String>>>,
}

impl Raw {
    fn take() -> anyhow::Result<Raw> {
        terminal::enable_raw_mode().context("cannot take the terminal")?;
        // From here on it is given back, whatever fails.
        let panics = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&panics);
        let raw = Terminal::new(CrosstermBackend::new(io::stdout())).map(|terminal| Raw { terminal, panics });
        if raw.is_err() {
            give_back();
        }
        let raw = raw.context("cannot draw on the terminal")?;
        // A panic's message would be lost on the other screen. Only who draws may leave it: else it would be drawn on after.
        let (owner, before) = (std::thread::current().id(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            if thread.id() == owner {
                give_back();
                before(panic);
            } else if let Ok(mut told) = told.lock() {
                let trace = Backtrace::capture();
                let trace = if trace.status() == BacktraceStatus::Captured { trace.to_string() } else { String::new() };
                told.push(format!("thread '{}' {panic}\n{trace}", thread.name().unwrap_or("unnamed")));
            }
        }));
        // `Terminal::clear` would ask where the cursor is, and a serial line has nobody who answers.
        let all = terminal::Clear(terminal::ClearType::All);
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide, all)
            .context("cannot draw on the terminal")?;
        Ok(raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::panic::take_hook();
        }
        give_back();
        for panic in self.panics.lock().iter().flat_map(|panics| panics.iter()) {
            eprint!("{panic}");
        }
    }
}

/// Puts the terminal as it was. The terminal may be gone: then there is nothing to put back.
fn give_back() {
    let _ = execute!(io::stdout(), terminal::LeaveAlternateScreen, cursor::Show);
    let _ = terminal::disable_raw_mode();
}

/// Shows the screens until somebody ends them. `work` makes the pages, on a thread of its own.
pub(crate) fn show(
    mut state: State,
    work: impl FnOnce(Desk) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let listener = Listener::start(signal::catch(&SIGNALS).context("cannot catch signals")?, Ends::default())?;
    let (requests, wanted) = unbounded();
    // Pages that nobody has drawn yet hold their maker up.
    let (news, told) = bounded(4);
    let maker = std::thread::Builder::new().name("pages".into()).spawn(move || {
        let failed = news.clone();
        if let Err(error) = work(Desk { requests: wanted, news }) {
            let _ = failed.send(News::Failed(error));
        }
    })?;
    let mut raw = Raw::take()?;
    let keys = Keys::start()?;
    let ended = run(&mut state, &mut raw.terminal, &requests, (&told, &keys.inputs, &listener));
    drop(requests);
    drop(told);
    drop(keys);
    drop(raw);
    drop(listener);
    signal::release(&SIGNALS);
    ended.map(|()| maker)
}

fn run(
    state: &mut State,
    terminal: &mut Terminal<CrosstermBackend<Stdout>>,
    requests: &Sender<Request>,
    (told, inputs, listener): (&Receiver<News>, &Receiver<Input>, &Listener),
) -> anyhow::Result<()> {
    let mut asked = None;
    let mut awaited = false;
    let mut pace = Pace::default();
    loop {
        let ask = state.ask();
        if asked.as_ref() != Some(&ask) {
            let _ = requests.send(Request::Show(ask.clone()));
            (asked, awaited) = (Some(ask), true);
        }
        let mut wait = pace.wait(Instant::now());
        if wait.is_zero() {
            terminal.draw(|frame| state.draw(frame.buffer_mut())).context("cannot draw on the terminal")?;
            pace.drew(Instant::now());
            wait = IDLE;
            // How wide the terminal is decides what some screens want.
            if asked != Some(state.ask()) {
                continue;
            }
        }
        select! {
            recv(inputs) -> input => {
                let Ok(input) = input else { return Ok(()) };
                // However many came, one drawing shows them all.
                for input in std::iter::once(input).chain(inputs.try_iter()) {
                    match key_of(&input).map(|key| state.key(key)) {
                        Some(Action::Quit) => return Ok(()),
                        Some(Action::Zero) => drop(requests.send(Request::Zero)),
                        Some(Action::Freeze(on)) => drop(requests.send(Request::Freeze(on))),
                        Some(Action::Draw) | None => {}
                    }
                }
                pace.change(true);
            },
            recv(told) -> news => match news {
                Ok(News::Page(ask, page)) => {
                    // The first page after a key is what the key was for.
                    let is_it = awaited && asked.as_ref() == Some(&ask);
                    awaited &= !is_it;
                    pace.change(is_it);
                    state.give(&ask, *page);
                }
                Ok(News::Status(status)) => {
                    state.set_status(status);
                    pace.change(false);
                }
                Ok(News::Failed(error)) => return Err(error),
                Err(_) => return Err(anyhow::anyhow!("the thread that makes pages ended")),
            },
            recv(listener.events) -> _ => return Ok(()),
            default(wait) => {}
        }
    }
}

/// When the screen is drawn: at once for a key and for what a key asked for, else [`PAUSE`] after the last time.
#[derive(Debug)]
struct Pace {
    /// When it was drawn last.
    drawn: Option<Instant>,
    /// Something is to be drawn.
    changed: bool,
    /// Without waiting.
    at_once: bool,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { drawn: None, changed: true, at_once: true }
    }
}

impl Pace {
    /// There is something to be drawn.
    fn change(&mut self, at_once: bool) {
        self.changed = true;
        self.at_once |= at_once;
    }

    /// How long to wait for something else before drawing: zero when it is time.
    fn wait(&self, now: Instant) -> Duration {
        match self.drawn {
            _ if !self.changed => IDLE,
            Some(at) if !self.at_once => PAUSE.saturating_sub(now.saturating_duration_since(at)),
            _ => Duration::ZERO,
        }
    }

    /// It was drawn.
    fn drew(&mut self, now: Instant) {
        *self = Pace { drawn: Some(now), changed: false, at_once: false };
    }
}

/// The thread that waits for keys, until it is dropped.
struct Keys {
    inputs: Receiver<Input>,
    stop: Arc<AtomicBool>,
}

impl Keys {
    fn start() -> anyhow::Result<Keys> {
        let (sender, inputs) = bounded(256);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new().name("keys".into()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let input = match event::poll(PATIENCE) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                // A terminal that is gone ends everything.
                let Ok(input) = input else { return };
                if sender.send(input).is_err() {
                    return;
                }
            }
        })?;
        Ok(Keys { inputs, stop })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // Nobody waits for the thread: of a terminal that is gone it may read for ever. It ends with the program.
        self.stop.store(true, Ordering::Release);
    }
}

fn key_of(input: &Input) -> Option<Key> {
    let Input::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, .. }) = input else {
        return None;
    };
    Some(match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Key::Interrupt,
        KeyCode::Char(_) if modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => return None,
        KeyCode::Char(letter) => Key::Char(*letter),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Tab => Key::Tab,
        _ => return None,
    })
}

/// The next request; `None` when none came in time, an error when nobody looks any more.
pub(crate) fn wait_for(requests: &Receiver<Request>, until: Instant) -> Result<Option<Request>, ()> {
    match requests.recv_deadline(until) {
        Ok(request) => Ok(Some(request)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use xprof_ui::screen::Able;

    use super::*;

    /// Ten seconds of milliseconds: when it was drawn, given what came in each.
    fn drawn(comes: impl Fn(u64, &mut Pace)) -> Vec<u64> {
        let (begun, mut pace) = (Instant::now(), Pace::default());
        let draws = |at: &u64| {
            let now = begun + Duration::from_millis(*at);
            comes(*at, &mut pace);
            let is_time = pace.wait(now).is_zero();
            if is_time {
                pace.drew(now);
            }
            is_time
        };
        (0..10_000).filter(draws).collect()
    }

    #[test]
    fn ten_times_a_second_at_most_and_at_once_after_a_key() {
        // News come all the time.
        let times = drawn(|_, pace| pace.change(false));
        assert_eq!(times, (0..100).map(|nth| nth * 100).collect::<Vec<_>>());
        // And a key in the 50th millisecond of every second: it is drawn in that millisecond, the news a pause later.
        let times = drawn(|at, pace| pace.change(at % 1000 == 50));
        assert!((0..10).all(|second| times.contains(&(second * 1000 + 50))));
        let unasked = |pair: &&[u64]| pair[1] % 1000 != 50;
        assert!(times.windows(2).filter(unasked).all(|pair| pair[1] - pair[0] == 100), "{times:?}");
        // Nothing comes: it is drawn once, and nobody wakes up for another time.
        assert_eq!(drawn(|_, _| ()), [0]);
    }

    /// Not a test by itself: shows screens and panics. See below.
    #[test]
    #[ignore = "panics, on a terminal"]
    fn a_panic() {
        let work: fn(Desk) -> anyhow::Result<()> = match std::env::var("WHERE").as_deref() {
            Ok("pages") => |desk| {
                desk.requests.recv().map(drop)?;
                panic!("as expected")
            },
            _ => |desk| desk.requests.iter().try_for_each(|_| Ok(())),
        };
        let on_screen = std::env::var("WHERE").is_ok_and(|text| text == "screen");
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _raw = on_screen.then(|| Raw::take().unwrap());
            assert!(!on_screen, "as expected");
            show(State::new(Able::default(), "xprof"), work)
        }));
        assert!(shown.is_ok_and(|shown| shown.is_ok()), "it ended by itself");
    }

    #[test]
    fn a_panic_gives_the_terminal_back() {
        let dir = tempfile::tempdir().unwrap();
        let own = std::env::current_exe().unwrap();
        for place in ["screen", "pages"] {
            let typed = format!(
                "stty -a > before; WHERE={place} TERM=xterm '{}' --ignored --exact --nocapture screen::tests::a_panic; stty -a > after",
                own.display()
            );
            // On a terminal of its own.
            let mut script = Command::new("script");
            let output = script.args(["-qefc", &typed, "/dev/null"]).current_dir(&dir).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let setting = |file: &str| std::fs::read_to_string(dir.path().join(file)).unwrap();
            assert_eq!(setting("before"), setting("after"), "{place}");
            // The other screen is left, the cursor is shown, and then the panic says what it was.
            let at = |text: &str, what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?}: {text:?}"));
            let (taken, rest) = text.split_at(at(&text, "\u{1b}[?1049h"));
            assert!(!taken.contains("as expected"));
            let (shown, after) = rest.split_at(at(rest, "as expected"));
            assert!(shown.contains("\u{1b}[?25l"), "{shown:?}");
            let gone = shown.rfind("\u{1b}[?1049l").expect("left");
            assert!(shown.rfind("\u{1b}[?25h") > Some(gone), "{shown:?}");
            assert!(!after.contains("\u{1b}[?1049h") && !after.contains("\u{1b}[?25l"), "{after:?}");
        }
    }
}
