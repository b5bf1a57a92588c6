//! The terminal of `top` and `report --tui`: who owns it while screens are shown, and gives it back on every way out.
//!
//! Three threads: this one draws and obeys keys and signals; one waits for keys; one, the caller's, makes pages. So a key is
//! answered at once, however long a page takes. The screen is redrawn ten times a second at most, but at once after a key.

use std::io::{self, IsTerminal, Stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    Page(Ask, Page),
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
struct Raw(Terminal<CrosstermBackend<Stdout>>);

impl Raw {
    fn take() -> anyhow::Result<Raw> {
        terminal::enable_raw_mode().context("cannot take the terminal")?;
        // From here on it is given back, whatever fails.
        let raw = Terminal::new(CrosstermBackend::new(io::stdout())).map(Raw);
        if raw.is_err() {
            give_back();
        }
        let mut raw = raw.context("cannot draw on the terminal")?;
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide).context("cannot draw on the terminal")?;
        raw.0.clear().context("cannot draw on the terminal")?;
        // A panic's message would be lost on the other screen.
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
        Ok(raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::panic::take_hook();
        }
        give_back();
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
    let ended = run(&mut state, &mut raw.0, &requests, (&told, &keys.inputs, &listener));
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
    let mut drawn: Option<Instant> = None;
    let (mut changed, mut at_once, mut awaited) = (true, true, false);
    loop {
        let ask = state.ask();
        if asked.as_ref() != Some(&ask) {
            let _ = requests.send(Request::Show(ask.clone()));
            (asked, awaited) = (Some(ask), true);
        }
        let due = drawn.map_or(Duration::ZERO, |at| PAUSE.saturating_sub(at.elapsed()));
        if changed && (at_once || due.is_zero()) {
            terminal.draw(|frame| state.draw(frame.buffer_mut())).context("cannot draw on the terminal")?;
            (drawn, changed, at_once) = (Some(Instant::now()), false, false);
        }
        let wait = if changed { due } else { Duration::from_secs(3600) };
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
                (changed, at_once) = (true, true);
            },
            recv(told) -> news => match news {
                Ok(News::Page(ask, page)) => {
                    // The first page after a key is what the key was for.
                    let is_it = awaited && asked.as_ref() == Some(&ask);
                    (changed, at_once, awaited) = (true, at_once || is_it, awaited && !is_it);
                    state.give(&ask, page);
                }
                Ok(News::Status(status)) => {
                    state.set_status(status);
                    changed = true;
                }
                Ok(News::Failed(error)) => return Err(error),
                Err(_) => return Err(anyhow::anyhow!("the thread that makes pages ended")),
            },
            recv(listener.events) -> _ => return Ok(()),
            default(wait) => {}
        }
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
