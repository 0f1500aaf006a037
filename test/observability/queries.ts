interface PanelJson {
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly datasource?: { readonly uid: string };
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
  readonly targets?: readonly { readonly expr: string }[];
}

/** As much of a Grafana dashboard as tests look at. */
export interface DashboardJson {
  readonly title: string;
  readonly panels: readonly PanelJson[];
}

export interface Query {
  readonly panel: string;
  readonly expr: string;
}

/** Every query of a dashboard, with the panel that makes it. */
export function queriesOf({ title, panels }: DashboardJson): Query[] {
  return panels.flatMap((panel) =>
    (panel.targets ?? []).map(({ expr }) => ({ panel: `${title} / ${panel.title}`, expr })),
  );
}
