/** One chart: uPlot on a canvas, colours of the theme, values under the pointer, and in words. */
import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import { clock } from './format.ts';
import { html, type View } from './html.ts';
import { type ChartData, chartInWords, lastKnown } from './series-model.ts';
import { useStore } from './store.ts';
import { theme } from './theme.ts';

const HEIGHT = 140;
/** A job that has just started shows as one. */
const LEAST_SPAN_SECONDS = 300;
const SYNC = { key: 'job' };

export function Chart({ chart }: { chart: ChartData }): View {
  const place = useRef<HTMLDivElement | null>(null);
  const plot = useRef<uPlot | null>(null);
  const [pointed, setPointed] = useState<number | null>(null);
  const shade = useStore(theme);
  const shape = `${shade} ${chart.lines.map(({ label }) => label)}`;
  useEffect(() => {
    const element = place.current;
    if (element === null) return undefined;
    const made = new uPlot(optionsOf(element, chart, setPointed), dataOf(chart), element);
    plot.current = made;
    const observer = new ResizeObserver(() => {
      made.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(dataOf(chart)), [chart]);
  const at = pointed === null ? null : (chart.at[pointed] ?? null);
  return html`<figure class="chart">
    <figcaption>
      <span>${chart.title}</span>
      <small class="number">${at === null ? '' : `${clock(at * 1000)} UTC`}</small>
    </figcaption>
    <div class="keys">
      ${chart.lines.map(({ label, values }, index) => {
        const value = pointed === null ? lastKnown(values) : (values[pointed] ?? null);
        return html`<span><i class=${`line-${index}`}></i>${label}
          <b class="number">${chart.format(value)}</b></span>`;
      })}
    </div>
    <div ref=${place} role="img" aria-label=${chartInWords(chart)} class="plot"></div>
  </figure>`;
}

function dataOf({ at, lines }: ChartData): uPlot.AlignedData {
  return [at, ...lines.map(({ values }) => values)] as uPlot.AlignedData;
}

/** Colours as the style sheet resolves them: a canvas knows no variables. */
function colourOf(element: HTMLElement, selector: string): string {
  const found = element.closest('.chart')?.querySelector(selector) ?? element;
  return getComputedStyle(found).color;
}

function optionsOf(
  element: HTMLElement,
  chart: ChartData,
  onPoint: (index: number | null) => void,
): uPlot.Options {
  const ink = colourOf(element, 'figcaption small');
  const faint = getComputedStyle(element).borderTopColor;
  const axis = { stroke: ink, font: '11px system-ui', grid: { stroke: faint, width: 1 } };
  const ticks = { show: false };
  return {
    width: element.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { sync: SYNC, y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: {
      x: { range: (_, first, last) => [Math.min(first, last - LEAST_SPAN_SECONDS), last] },
      y: { range: (_, low, high) => rangeOf(low, high) },
    },
    series: [
      {},
      ...chart.lines.map(({ label }, index) => {
        const stroke = colourOf(element, `.line-${index}`);
        return {
          label,
          stroke,
          width: 1.5,
          points: { show: chart.sparse, size: 4 },
          spanGaps: chart.sparse,
        };
      }),
    ],
    axes: [
      { ...axis, ticks, grid: { show: false }, size: 24, values: (_, at) => timeTicks(at) },
      { ...axis, ticks, size: 62, space: 40, values: (_, at) => at.map(chart.format) },
    ],
    hooks: { setCursor: [({ cursor }) => onPoint(cursor.idx ?? null)] },
  };
}

const timeTicks = (at: number[]): string[] => at.map((second) => clock(second * 1000).slice(0, 5));

/** From 0, so that a small change does not look like a big one. */
function rangeOf(low: number | null, high: number | null): uPlot.Range.MinMax {
  const top = high === null || high <= 0 ? 1 : high * 1.1;
  return [Math.min(0, low ?? 0), top];
}
