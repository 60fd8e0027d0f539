//! From an event to a finished line.

use std::cell::Cell;
use std::sync::Arc;

use ops_core::Clock;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::format::{Fields, Formatter, Line};
use crate::sink::Sink;
use crate::time::Zone;

/// A buffer that grew past this is not kept.
const KEPT_CAPACITY: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<String> = const { Cell::new(String::new()) };
}

/// Formats each event once and hands the line to every sink.
#[derive(Debug)]
pub(crate) struct LogLayer {
    pub(crate) sinks: Vec<Arc<dyn Sink>>,
    pub(crate) formatter: Formatter,
    pub(crate) zone: Zone,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A span's fields, as they were recorded: redacted only when written, because the redactor may
/// learn a secret after the span began.
#[derive(Debug, Default, Clone)]
struct SpanFields(Arc<Fields>);

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        // Another layer of this crate in the same subscriber has recorded the same values.
        if span.extensions().get::<SpanFields>().is_none() {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().replace(SpanFields(Arc::new(fields)));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        // Outside the lock of the extensions: a value's `Debug` may log, which reads them.
        let mut recorded = Fields::default();
        values.record(&mut recorded);
        if let Some(fields) = span.extensions_mut().get_mut::<SpanFields>() {
            Arc::make_mut(&mut fields.0).merge(recorded);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let now = self.clock.now();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let spans: Vec<(&'static str, Arc<Fields>)> = ctx
            .event_scope(event)
            .into_iter()
            .flat_map(tracing_subscriber::registry::Scope::from_root)
            .map(|span| {
                let fields = span.extensions().get::<SpanFields>().cloned().unwrap_or_default();
                (span.name(), fields.0)
            })
            .collect();
        let metadata = event.metadata();
        let bridged = fields.take_bridged_target();
        let line = Line {
            at: &self.zone.stamp(now),
            level: *metadata.level(),
            target: bridged.as_deref().unwrap_or(metadata.target()),
            fields: &fields,
            spans: &spans,
        };
        // Taken, not borrowed: a value's `Debug` may log while it is formatted.
        let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        buffer.clear();
        self.formatter.write(&mut buffer, &line);
        for sink in &self.sinks {
            sink.write(now, buffer.as_bytes());
        }
        if buffer.capacity() <= KEPT_CAPACITY {
            // While the thread ends there is no place to keep it, and no need.
            let _ = BUFFER.try_with(|kept| kept.set(buffer));
        }
    }
}
