//! Which functions were compiled into the code that is on the screen. Debug information is large: it is read by a thread of its own,
//! once for each address, and only while callers, callees or a flame graph are looked at. Until it has been read they are shown without.

use crossbeam_channel::{Receiver, RecvError, Sender, bounded, never, select};
use xprof_profile::profile::{Live, Read, Unread};
use xprof_profile::symbols::Symbolizer;

use super::screen::WINDOW;

/// Frames, and what was read of them, with [`Live::unread`]'s number.
type Question = (u32, Unread);
type Answer = (u32, Read);

/// The thread that reads, and what it is at.
pub(super) struct Inliner {
    symbolizer: Symbolizer,
    /// Its questions and answers; `None` before it is first asked.
    thread: Option<(Sender<Question>, Receiver<Answer>)>,
    is_busy: bool,
    /// What came while somebody waited for it.
    waiting: Option<Answer>,
}

impl Inliner {
    pub(super) fn new(symbolizer: Symbolizer) -> Inliner {
        Inliner { symbolizer, thread: None, is_busy: false, waiting: None }
    }

    /// Waits for `other`, or until something has been read: `None`.
    pub(super) fn wait_for<T>(&mut self, other: &Receiver<T>) -> Result<Option<T>, RecvError> {
        let silent = never();
        let answers = self.thread.as_ref().filter(|_| self.is_busy).map_or(&silent, |(_, answers)| answers);
        select! {
            recv(other) -> thing => thing.map(Some),
            recv(answers) -> answer => {
                self.waiting = answer.ok();
                self.is_busy &= self.waiting.is_some();
                Ok(None)
            }
        }
    }

    /// Tells `live` what was read since, and has the rest of what is on the screen read; waits for nothing.
    pub(super) fn look_up(&mut self, live: &mut Live) {
        let (questions, answers) = self.thread.get_or_insert_with(|| {
            let ((questions, asked), (answer, answers)) = (bounded::<Question>(1), bounded(1));
            let symbolizer = self.symbolizer.clone();
            // Without a thread nobody asks twice: everything is shown without.
            let _ = std::thread::Builder::new().name("inlined".into()).spawn(move || {
                for (number, unread) in &asked {
                    if answer.send((number, unread.read(&symbolizer))).is_err() {
                        return;
                    }
                }
            });
            (questions, answers)
        });
        let answer = self.waiting.take().or_else(|| answers.try_recv().ok());
        if let Some(read) = answer {
            self.is_busy = false;
            live.learn(read);
        }
        if self.is_busy {
            return;
        }
        let (number, unread) = live.unread(WINDOW);
        self.is_busy = !unread.is_empty() && questions.try_send((number, unread)).is_ok();
    }
}
