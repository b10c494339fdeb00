/** Grafana dashboards as data: what the three of them share. */

export interface Query {
  expr: string;
  /** Grafana's legendFormat; '' = the metric's labels. */
  legend: string;
}

export interface Panel {
  title: string;
  description?: string;
  kind: 'timeseries' | 'stat' | 'table' | 'heatmap';
  /** Grafana's unit: s, bytes, ops, percentunit, short. */
  unit: string;
  /** Of 24 columns. */
  width: 4 | 6 | 8 | 12 | 24;
  stack?: boolean;
  queries: readonly Query[];
}

export interface Row {
  title: string;
  panels: readonly Panel[];
}

export interface Annotation {
  name: string;
  expr: string;
}

export interface Variable {
  name: string;
  label: string;
  /** label_values(metric, label) */
  query: string;
  /** Several at once, with All. */
  many: boolean;
}

export interface Dashboard {
  uid: string;
  title: string;
  description: string;
  variables: readonly Variable[];
  annotations: readonly Annotation[];
  rows: readonly Row[];
}

const DATASOURCE = { type: 'prometheus', uid: '$datasource' };
const HEIGHT = { timeseries: 8, heatmap: 8, table: 10, stat: 4 } as const;
const COLUMNS = 24;

export const timeseries = (
  title: string,
  unit: string,
  queries: readonly Query[],
  more: Partial<Panel> = {},
): Panel => ({ title, unit, queries, kind: 'timeseries', width: 8, ...more });

export const stat = (title: string, unit: string, expr: string, legend = ''): Panel => ({
  title,
  unit,
  queries: [{ expr, legend }],
  kind: 'stat',
  width: 4,
});

export const query = (expr: string, legend = ''): Query => ({ expr, legend });

/** What Grafana imports, with keys in a fixed order. */
export function grafanaJson(dashboard: Dashboard): object {
  const { uid, title, description, variables, annotations, rows } = dashboard;
  return {
    uid,
    title,
    description,
    tags: ['triggerjob'],
    editable: true,
    schemaVersion: 39,
    version: 1,
    refresh: '30s',
    time: { from: 'now-1h', to: 'now' },
    timezone: 'browser',
    templating: { list: [datasourceVariable(), ...variables.map(variableJson)] },
    annotations: { list: annotations.map(annotationJson) },
    panels: panelsJson(rows),
  };
}

function datasourceVariable(): object {
  return { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus' };
}

function variableJson({ name, label, query: text, many }: Variable): object {
  return {
    name,
    label,
    type: 'query',
    datasource: DATASOURCE,
    query: { query: text, refId: name },
    refresh: 2,
    sort: 1,
    includeAll: many,
    multi: many,
    // Also what bears no such label: a job outside of Kubernetes has no namespace.
    ...(many && { allValue: '.*' }),
  };
}

function annotationJson({ name, expr }: Annotation): object {
  return { name, datasource: DATASOURCE, enable: true, expr, iconColor: 'orange', step: '15s' };
}

/** Left to right, line by line, below a heading each. */
function panelsJson(rows: readonly Row[]): object[] {
  const panels: object[] = [];
  let y = 0;
  for (const { title, panels: own } of rows) {
    const id = panels.length + 1;
    panels.push({ id, type: 'row', title, collapsed: false, gridPos: grid(0, y, COLUMNS, 1) });
    y += 1;
    let x = 0;
    let tallest = 0;
    for (const panel of own) {
      if (x + panel.width > COLUMNS) {
        y += tallest;
        x = 0;
        tallest = 0;
      }
      const height = HEIGHT[panel.kind];
      panels.push(panelJson(panel, panels.length + 1, grid(x, y, panel.width, height)));
      x += panel.width;
      tallest = Math.max(tallest, height);
    }
    y += tallest;
  }
  return panels;
}

const grid = (x: number, y: number, w: number, h: number) => ({ x, y, w, h });

function panelJson(panel: Panel, id: number, gridPos: object): object {
  const { title, description = '', kind, unit, stack = false, queries } = panel;
  const custom = { fillOpacity: stack ? 40 : 10, stacking: { mode: stack ? 'normal' : 'none' } };
  return {
    id,
    type: kind,
    title,
    description,
    datasource: DATASOURCE,
    gridPos,
    fieldConfig: {
      defaults: { unit, min: 0, ...(kind === 'timeseries' && { custom }) },
      overrides: [],
    },
    ...(kind === 'timeseries' && { options: { tooltip: { mode: 'multi', sort: 'desc' } } }),
    ...(kind === 'table' && {
      transformations: [{ id: 'merge', options: {} }],
    }),
    targets: queries.map(({ expr, legend }, at) => ({
      refId: String.fromCharCode('A'.charCodeAt(0) + at),
      datasource: DATASOURCE,
      expr,
      ...(legend !== '' && { legendFormat: legend }),
      ...(kind === 'table' && { format: 'table', instant: true }),
      ...(kind === 'heatmap' && { format: 'heatmap' }),
    })),
  };
}
