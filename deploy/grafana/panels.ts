/**
 * What a dashboard is made of, in fewer words than Grafana's: the library that Grafana generates from its own schema knows the rest.
 * In the classic format, which every supported Grafana and the sidecar of its chart read.
 */

import * as common from "@grafana/grafana-foundation-sdk/common";
import {
  BigValueColorMode,
  BigValueGraphMode,
  type DataSourceRef,
  GraphThresholdsStyleMode,
} from "@grafana/grafana-foundation-sdk/common";
import {
  type Dashboard,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  VariableRefresh,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder, PromQueryFormat } from "@grafana/grafana-foundation-sdk/prometheus";
import * as stat from "@grafana/grafana-foundation-sdk/stat";
import * as table from "@grafana/grafana-foundation-sdk/table";
import * as timeseries from "@grafana/grafana-foundation-sdk/timeseries";

/** Names of Grafana's units. */
export type Unit = "none" | "s" | "ops" | "reqps" | "percentunit" | "bytes";

export interface Query {
  /** PromQL; `$namespace` is what the reader chose. */
  readonly expr: string;
  /** Of each series; `{{label}}` stands for the value of a label. */
  readonly legend?: string;
}

export interface Panel {
  readonly title: string;
  /** What is seen, and what of it is not well. */
  readonly description: string;
  /** One figure now, figures over time, or rows now. */
  readonly as: "figure" | "graph" | "rows";
  readonly unit?: Unit;
  readonly queries: readonly Query[];
  /** From here on it is worth a look (orange), or somebody should get up (red); `below` where less is worse. */
  readonly limits?: { readonly warning?: number; readonly critical?: number; readonly below?: true };
  /** Alerts about the same, by name. */
  readonly alerts?: readonly string[];
  /** Of 24; 4 for a figure and 8 for others unless said. */
  readonly width?: number;
}

export interface Board {
  /** Also the name of its file. At most 40 characters; kept for ever, since people link to it. */
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly rows: readonly { readonly title: string; readonly panels: readonly Panel[] }[];
}

const TAG = "mazevault";
/** A chart that knows where the pages are published puts their address here. */
const RUNBOOKS = "docs/runbooks";
const DATASOURCE: DataSourceRef = { type: "prometheus", uid: "$datasource" };

/** Each step holds from its value upwards, the first one from minus infinity. */
function thresholds({ warning, critical, below }: NonNullable<Panel["limits"]>): ThresholdsConfigBuilder {
  const limits = [
    { color: "orange", value: warning },
    { color: "red", value: critical },
  ].filter((limit): limit is { color: string; value: number } => limit.value !== undefined);
  const colors = below
    ? [...limits.map(({ color }) => color).toReversed(), "green"]
    : ["green", ...limits.map(({ color }) => color)];
  const values = below ? limits.map(({ value }) => value).toReversed() : limits.map(({ value }) => value);
  return new ThresholdsConfigBuilder()
    .mode(ThresholdsMode.Absolute)
    .steps(colors.map((color, at) => ({ color, value: values[at - 1] ?? null })));
}

const link = (alert: string): DashboardLinkBuilder =>
  new DashboardLinkBuilder(`Runbook of ${alert}`)
    .type(DashboardLinkType.Link)
    .url(`${RUNBOOKS}/${alert}.md`)
    .targetBlank(true);

type Builder = stat.PanelBuilder | table.PanelBuilder | timeseries.PanelBuilder;

function shape(panel: Panel): Builder {
  switch (panel.as) {
    case "figure":
      return new stat.PanelBuilder()
        .graphMode(BigValueGraphMode.Area)
        .colorMode(panel.limits ? BigValueColorMode.Value : BigValueColorMode.None)
        .height(4);
    case "rows":
      // Prometheus' own columns say nothing here.
      return new table.PanelBuilder()
        .withTransformation({ id: "organize", options: { excludeByName: { Time: true, __name__: true } } })
        .height(8);
    case "graph": {
      const graph = new timeseries.PanelBuilder()
        .fillOpacity(8)
        .min(0)
        .height(8)
        .legend(
          new common.VizLegendOptionsBuilder()
            .showLegend(true)
            .displayMode(common.LegendDisplayMode.List)
            .placement(common.LegendPlacement.Bottom),
        );
      return panel.limits
        ? graph.thresholdsStyle(new common.GraphThresholdsStyleConfigBuilder().mode(GraphThresholdsStyleMode.Dashed))
        : graph;
    }
  }
}

function built(panel: Panel, id: number): Builder {
  const builder = shape(panel)
    .id(id)
    .title(panel.title)
    .description(panel.description)
    .datasource(DATASOURCE)
    .unit(panel.unit ?? "none")
    .span(panel.width ?? (panel.as === "figure" ? 4 : 8))
    .links((panel.alerts ?? []).map(link));
  if (panel.limits) builder.thresholds(thresholds(panel.limits));
  panel.queries.forEach(({ expr, legend }, at) => {
    const query = new DataqueryBuilder()
      .refId(String.fromCharCode(65 + at))
      .datasource(DATASOURCE)
      .expr(expr);
    if (legend !== undefined) query.legendFormat(legend);
    if (panel.as === "rows") query.instant().format(PromQueryFormat.Table);
    else query.range();
    builder.withTarget(query);
  });
  return builder;
}

/** As Grafana reads it. */
export function dashboard({ uid, title, description, rows }: Board): Dashboard {
  const builder = new DashboardBuilder(title)
    .uid(uid)
    .description(description)
    .tags([TAG])
    .timezone("browser")
    .time({ from: "now-6h", to: "now" })
    .refresh("1m")
    .tooltip(DashboardCursorSync.Crosshair)
    .readonly()
    .link(
      new DashboardLinkBuilder("MazeVault")
        .type(DashboardLinkType.Dashboards)
        .tags([TAG])
        .asDropdown(true)
        .includeVars(true)
        .keepTime(true),
    )
    .withVariable(new DatasourceVariableBuilder("datasource").label("Prometheus").type("prometheus"))
    .withVariable(
      new QueryVariableBuilder("namespace")
        .label("Namespace")
        .description("Of the installation, where Prometheus knows it.")
        .datasource(DATASOURCE)
        .query("label_values(mazevault_external_calls_total, namespace)")
        .refresh(VariableRefresh.OnTimeRangeChanged)
        .multi(true)
        .includeAll(true)
        .allValue(".*")
        .current({ selected: true, text: "All", value: "$__all" }),
    );
  let id = 0;
  for (const row of rows) {
    id += 1;
    builder.withRow(new RowBuilder(row.title).id(id));
    for (const panel of row.panels) {
      id += 1;
      builder.withPanel(built(panel, id));
    }
  }
  return builder.build();
}
