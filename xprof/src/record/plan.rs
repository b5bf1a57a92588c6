//! What the options mean: events parsed, targets decided, defaults filled in, contradictions refused.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use xprof_backend::event::EventGroup;
use xprof_backend::plan::{CallGraph, DomainTarget, Plan, Rate, Target};

use super::unwinding::SIZE_MAX;
use super::values::{BackendChoice, CallGraphMode, Control, Frequency, RingSize, Switch};
use crate::commands::record::{Options, Sampling};
use crate::exit::Failure;

/// Samples per second when nothing is said.
const DEFAULT_HZ: u64 = 997;
/// Of domains: their vCPUs are looked at one by one from outside.
const DOMAINS_HZ: u64 = 97;
/// Largest ring data area that `-m` may ask for, bytes.
const RING_MAX: u64 = 1 << 40;

/// A recording, resolved.
#[derive(Debug)]
pub(crate) struct Recording {
    /// What the backend is asked. For the command itself the target is [`Target::Command`] of pid 0 until it is forked.
    pub(crate) plan: Plan,
    /// Which backend.
    pub(crate) backend: BackendChoice,
    /// The command, if any.
    pub(crate) command: Vec<OsString>,
    /// When it begins, ends and changes.
    pub(crate) run: Run,
    /// What is written.
    pub(crate) file: File,
    /// Print the report when done.
    pub(crate) report: bool,
    /// `-g`: of the ways to take stacks, the best one.
    pub(crate) best_stacks: bool,
}

/// When measuring begins, ends and changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// End after this.
    pub(crate) duration: Option<Duration>,
    /// Enable the events after this.
    pub(crate) enable_after: Option<Duration>,
    /// Commands come from here.
    pub(crate) control: Option<Control>,
    /// Begin a new file then.
    pub(crate) switch: Option<Switch>,
}

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Where to; `None` is stdout.
    pub(crate) path: Option<PathBuf>,
    /// zstd level.
    pub(crate) compression: Option<i32>,
    /// Each finished file gets a name with the time of day.
    pub(crate) stamped: bool,
}

/// Parses one `-e` argument.
pub(crate) type ParseEvents<'a> = &'a dyn Fn(&str) -> anyhow::Result<Vec<EventGroup>>;

/// Decides what `options` mean.
pub(crate) fn resolve(options: Options, parse: ParseEvents<'_>) -> anyhow::Result<Recording> {
    check(&options)?;
    let sampling = options.sampling;
    let stacks = sampling.stacks || is_off_cpu(&sampling);
    let best_stacks = sampling.call_graph.is_none() && stacks && !options.keep_stacks;
    let has_command = !options.command.is_empty();
    let mut plan = plan(&sampling, has_command, parse)?;
    keep_stacks(&mut plan, options.keep_stacks);
    plan.clockid = options.clock;
    plan.overwrite = options.overwrite;
    plan.start_disabled = options.delay.is_some_and(|ms| ms != 0);
    let to_stdout = options.output.as_deref().is_some_and(|path| path.as_os_str() == "-");
    Ok(Recording {
        plan,
        backend: sampling.backend,
        command: options.command,
        run: Run {
            duration: sampling.duration,
            enable_after: options
                .delay
                .and_then(|ms| u64::try_from(ms).ok())
                .filter(|ms| *ms > 0)
                .map(Duration::from_millis),
            control: options.control,
            switch: options.switch_output,
        },
        file: File {
            path: (!to_stdout).then(|| options.output.unwrap_or_else(|| "perf.data".into())),
            compression: options.compression,
            stamped: options.switch_output.is_some(),
        },
        report: options.report,
        best_stacks,
    })
}

/// What a backend is asked; `has_command`: there is a command to be started.
pub(crate) fn plan(sampling: &Sampling, has_command: bool, parse: ParseEvents<'_>) -> anyhow::Result<Plan> {
    check_sampling(sampling)?;
    let mut events = Vec::new();
    for text in &sampling.events {
        events.extend(parse(text)?);
    }
    let page = rustix::param::page_size() as u64;
    Ok(Plan {
        events,
        target: target(sampling, has_command),
        rate: match (sampling.frequency, sampling.count) {
            (_, Some(period)) => Rate::Period(period),
            (Some(Frequency::Max), None) => Rate::MaxFrequency,
            (Some(Frequency::Hz(hz)), None) => Rate::Frequency(hz),
            (None, None) if has_domains(sampling) => Rate::Frequency(DOMAINS_HZ),
            (None, None) => Rate::Frequency(DEFAULT_HZ),
        },
        rate_is_asked: sampling.frequency.is_some() || sampling.count.is_some(),
        cpus: sampling.cpus.as_ref().map(|list| list.0.clone()),
        off_cpu: is_off_cpu(sampling),
        sources: sampling.sources.unwrap_or_default(),
        // A wait is told by its stack.
        call_graph: match (sampling.call_graph, sampling.stacks || is_off_cpu(sampling)) {
            (Some(CallGraphMode::Fp), _) => CallGraph::FramePointers,
            (Some(CallGraphMode::Dwarf(size)), _) => CallGraph::StackCopies { size, kept: false },
            (Some(CallGraphMode::Lbr), _) => CallGraph::CallsOfTheCpu,
            (None, true) => CallGraph::StackCopies { size: SIZE_MAX, kept: false },
            (None, false) => CallGraph::None,
        },
        inherit: !sampling.no_inherit,
        mmap_pages: sampling.mmap_pages.map(|size| pages(size, page)).transpose()?,
        clockid: None,
        overwrite: false,
        start_disabled: false,
        with_ids: false,
    })
}

/// Whether the waits of tasks are recorded.
fn is_off_cpu(sampling: &Sampling) -> bool {
    sampling.off_cpu && !has_domains(sampling)
}

/// `--keep-stacks`.
fn keep_stacks(plan: &mut Plan, keep: bool) {
    if let CallGraph::StackCopies { kept, .. } = &mut plan.call_graph {
        *kept = keep;
    }
}

/// Contradictions that clap does not see.
fn check(options: &Options) -> Result<(), Failure> {
    let to_stdout = options.output.as_deref().is_some_and(|path| path.as_os_str() == "-");
    if to_stdout && options.switch_output.is_some() {
        return Err(Failure::usage("--switch-output makes files: give one with -o FILE instead of -o -"));
    }
    if to_stdout && options.report {
        return Err(Failure::usage("--report reads the file back: give one with -o FILE instead of -o -"));
    }
    if options.switch_output.is_some() && options.report {
        return Err(Failure::usage("--report reads one file and --switch-output makes many: use xprof report -i FILE"));
    }
    if options.switch_output.is_some() && matches!(options.sampling.backend, BackendChoice::Simulated(_)) {
        return Err(Failure::usage("--switch-output: the simulated machine fills one file; leave it away"));
    }
    if options.delay == Some(-1) && options.control.is_none() {
        return Err(Failure::usage(
            "-D -1 waits for `enable` from --control, and there is none: add --control fifo:PATH",
        ));
    }
    Ok(())
}

fn check_sampling(options: &Sampling) -> Result<(), Failure> {
    if options.consistent && !has_domains(options) {
        return Err(Failure::usage("--consistent pauses domains: name them with --domain, or all with --all-domains"));
    }
    let native = matches!(options.backend, BackendChoice::Auto | BackendChoice::Native);
    if options.off_cpu && !has_domains(options) && !native {
        return Err(Failure::usage("--off-cpu wants the kernel's own events: leave --backend away"));
    }
    let is_whole = options.all && options.cpus.is_none() && options.backend == BackendChoice::Auto;
    let counts = options.sources.is_some_and(|sources| sources.vpmu);
    if counts && has_domains(options) {
        return Err(Failure::usage("--source vpmu samples the whole host: -a in place of the domains"));
    }
    let has_whole = is_whole || counts && matches!(options.backend, BackendChoice::Simulated(_));
    if options.sources.is_some() && !has_domains(options) && !has_whole {
        return Err(Failure::usage(
            "--source says what tells of a Xen host's domains: add -a, --domain or --all-domains",
        ));
    }
    if options.consistent && !options.stacks && options.call_graph.is_none() {
        return Err(Failure::usage("--consistent pauses domains while their stacks are read: add -g"));
    }
    if options.domain.iter().any(String::is_empty) {
        return Err(Failure::usage("--domain wants ids, names or UUIDs of domains separated by commas"));
    }
    if options.cgroup.iter().any(String::is_empty) {
        return Err(Failure::usage("-G wants names of control groups separated by commas"));
    }
    Ok(())
}

fn has_domains(options: &Sampling) -> bool {
    options.all_domains || !options.domain.is_empty()
}

fn target(options: &Sampling, has_command: bool) -> Target {
    if has_domains(options) {
        let (which, consistent) = (options.domain.clone(), options.consistent);
        return Target::Domains(DomainTarget { which, consistent, waiting: options.off_cpu, host: false });
    }
    match (&options.processes, &options.threads) {
        (Some(list), _) => Target::Processes(list.0.clone()),
        (None, Some(list)) => Target::Threads(list.0.clone()),
        (None, None) if !options.cgroup.is_empty() => Target::Cgroups(options.cgroup.clone()),
        (None, None) if options.all || options.cpus.is_some() || !has_command => Target::System,
        (None, None) => Target::Command(0),
    }
}

/// Pages of a ring: a power of two, rounded up.
fn pages(size: RingSize, page: u64) -> Result<usize, Failure> {
    let pages = match size {
        RingSize::Pages(pages) => pages,
        RingSize::Bytes(bytes) => bytes.div_ceil(page),
    };
    let rounded = pages.checked_next_power_of_two().filter(|p| p.checked_mul(page).is_some_and(|b| b <= RING_MAX));
    rounded
        .and_then(|p| usize::try_from(p).ok())
        .ok_or_else(|| Failure::usage(format!("-m: rings of {pages} pages of {page} bytes are too large")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use xprof_backend::plan::Sources;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn no_events(text: &str) -> anyhow::Result<Vec<EventGroup>> {
        let group = EventGroup { events: Vec::new(), leader_sampling: false, name: text.into() };
        Ok(vec![group])
    }

    fn try_plan(args: &[&str]) -> anyhow::Result<Recording> {
        let cli = Cli::try_parse_from(std::iter::once(&"record").chain(args))?;
        resolve(cli.options, &no_events)
    }

    fn plan(args: &[&str]) -> Recording {
        try_plan(args).unwrap()
    }

    #[test]
    fn nothing_means_the_whole_machine_at_997_hz() {
        let r = plan(&[]);
        assert_eq!(r.plan.target, Target::System);
        assert_eq!(r.plan.rate, Rate::Frequency(997));
        assert_eq!(r.plan.call_graph, CallGraph::None);
        assert!(r.plan.inherit && !r.plan.overwrite && !r.plan.start_disabled);
        assert_eq!((r.plan.cpus, r.plan.mmap_pages, r.plan.clockid), (None, None, None));
        assert_eq!(r.file, File { path: Some("perf.data".into()), compression: None, stamped: false });
        assert_eq!(r.run, Run::default());
        assert_eq!(r.backend, BackendChoice::Auto);
        assert!(!r.report);
    }

    #[test]
    fn a_command_is_the_target_and_keeps_its_own_options() {
        let r = plan(&["-g", "--", "ls", "-a", "-F", "9"]);
        assert_eq!(r.plan.target, Target::Command(0));
        assert_eq!(r.command, ["ls", "-a", "-F", "9"]);
        assert_eq!(r.plan.rate, Rate::Frequency(997));
        assert_eq!(plan(&["-c", "5", "ls", "-a"]).command, ["ls", "-a"]);
    }

    #[test]
    fn targets() {
        assert_eq!(plan(&["-p", "3,1"]).plan.target, Target::Processes(vec![1, 3]));
        assert_eq!(plan(&["-t", "9"]).plan.target, Target::Threads(vec![9]));
        assert_eq!(plan(&["-a"]).plan.target, Target::System);
        assert_eq!(plan(&["-a", "--", "true"]).plan.target, Target::System);
        assert_eq!(plan(&["-p", "1", "--", "sleep", "1"]).plan.target, Target::Processes(vec![1]));
        let r = plan(&["-C", "0-1", "--", "true"]);
        assert_eq!((r.plan.target, r.plan.cpus), (Target::System, Some(vec![0, 1])));
        assert_eq!(plan(&["-G", "a,b"]).plan.target, Target::Cgroups(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn contradictions_are_refused() {
        let refused: [&[&str]; 10] = [
            &["-p", "1", "-a"],
            &["-p", "1", "-t", "2"],
            &["-t", "1", "-a"],
            &["-p", "1", "-G", "a"],
            &["-F", "9", "-c", "9"],
            &["-o", "-", "--switch-output"],
            &["-o", "-", "--report"],
            &["--report", "--switch-output=1M"],
            &["-D", "-1"],
            &["-G", ""],
        ];
        for args in refused {
            assert!(try_plan(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn domains_are_sampled_at_97_hz() {
        let r = plan(&["--domain", "web,3", "--off-cpu"]);
        let which = vec!["web".to_owned(), "3".to_owned()];
        assert_eq!(
            r.plan.target,
            Target::Domains(DomainTarget { which, consistent: false, waiting: true, host: false })
        );
        assert_eq!(r.plan.rate, Rate::Frequency(97));
        let r = plan(&["--all-domains", "-F", "50", "--", "sleep", "1"]);
        assert_eq!((r.plan.target, r.plan.rate), (Target::Domains(DomainTarget::default()), Rate::Frequency(50)));
        assert_eq!(
            plan(&["-a", "--source", "context,trace"]).plan.sources,
            Sources { context: true, trace: true, vpmu: false }
        );
        let vpmu = Sources { context: false, trace: true, vpmu: true };
        assert_eq!(plan(&["-a", "--source", "vpmu"]).plan.sources, vpmu);
        assert_eq!(plan(&["--backend", "simulated", "--source", "vpmu"]).plan.sources, vpmu);
        for refused in [
            &["--all-domains", "-a"][..],
            &["--all-domains", "--source", "vpmu"],
            &["--source", "vpmu"],
            &["--backend", "simulated", "--source", "trace"],
            &["--source", "trace"],
            &["-a", "-C", "0", "--source", "trace"],
            &["-a", "--overwrite", "--source", "trace"],
            &["--domain", "1", "-p", "1"],
            &["--off-cpu", "--backend", "simulated"],
            &["--domain", ""],
        ] {
            assert!(try_plan(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(plan(&["-F", "99"]).plan.rate, Rate::Frequency(99));
        assert_eq!(plan(&["-F", "max"]).plan.rate, Rate::MaxFrequency);
        assert_eq!(plan(&["-c", "1000"]).plan.rate, Rate::Period(1000));
    }

    #[test]
    fn events_add_up() {
        let names: Vec<String> = plan(&["-e", "a", "-e", "{b,c}:S"]).plan.events.into_iter().map(|g| g.name).collect();
        assert_eq!(names, ["a", "{b,c}:S"]);
    }

    #[test]
    fn call_graphs() {
        assert_eq!(plan(&["-g"]).plan.call_graph, CallGraph::StackCopies { size: 65_528, kept: false });
        let dwarf = plan(&["-g", "--call-graph", "dwarf,8192", "--keep-stacks"]);
        assert_eq!(dwarf.plan.call_graph, CallGraph::StackCopies { size: 8192, kept: true });
        assert_eq!(plan(&["--call-graph", "fp"]).plan.call_graph, CallGraph::FramePointers);
    }

    #[test]
    fn inheritance_clock_overwrite_backend_and_report() {
        assert!(!plan(&["--no-inherit"]).plan.inherit && !plan(&["-i"]).plan.inherit);
        assert_eq!(plan(&["-k", "mono"]).plan.clockid, Some(1));
        assert!(plan(&["--overwrite"]).plan.overwrite);
        assert_eq!(plan(&["--backend", "native"]).backend, BackendChoice::Native);
        assert!(plan(&["--report"]).report);
    }

    #[test]
    fn rings() {
        assert_eq!(plan(&["-m", "100"]).plan.mmap_pages, Some(128));
        let page = rustix::param::page_size();
        assert_eq!(plan(&["-m", "1M"]).plan.mmap_pages, Some((1 << 20) / page));
        assert!(try_plan(&["-m", "18446744073709551615"]).is_err());
    }

    #[test]
    fn when() {
        let r = plan(&["-d", "2.5", "-D", "100"]);
        assert_eq!(r.run.duration, Some(Duration::from_millis(2500)));
        assert_eq!((r.run.enable_after, r.plan.start_disabled), (Some(Duration::from_millis(100)), true));
        let r = plan(&["-D", "-1", "--control", "fd:3,4"]);
        assert_eq!((r.run.enable_after, r.plan.start_disabled), (None, true));
        assert_eq!(r.run.control, Some(Control::Fds(3, Some(4))));
        assert!(!plan(&["-D", "0"]).plan.start_disabled);
        assert_eq!(plan(&["--switch-output"]).run.switch, Some(Switch::Signal));
        assert_eq!(plan(&["--switch-output=2M", "true"]).run.switch, Some(Switch::Bytes(2 << 20)));
    }

    #[test]
    fn files() {
        assert_eq!(plan(&["-o", "x"]).file.path, Some("x".into()));
        assert_eq!(plan(&["-o", "-"]).file.path, None);
        let r = plan(&["-z", "gzip", "-9"]);
        assert_eq!((r.file.compression, r.command), (Some(1), vec!["gzip".into(), "-9".into()]));
        assert_eq!(plan(&["-z=7"]).file.compression, Some(7));
        assert_eq!(plan(&["--compression-level=7"]).file.compression, Some(7));
    }
}
