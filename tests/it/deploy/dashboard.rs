//! The dashboard as Grafana reads it, made of the panels.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::panels::{Panel, ROWS, Shape};
use crate::readme::root;

/// The grid has so many columns.
const COLUMNS: usize = 24;
const HEIGHT: usize = 8;

fn path() -> PathBuf {
    root().join("deploy/grafana/usher.json")
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn shown(panel: &Panel, id: usize, place: &Value) -> Value {
    let (kind, custom, options) = match panel.shape {
        Shape::Stat => (
            "stat",
            json!({}),
            json!({ "reduceOptions": { "calcs": ["lastNotNull"] } }),
        ),
        Shape::Table => ("table", json!({}), json!({})),
        Shape::Series | Shape::Stacked => (
            "timeseries",
            match panel.shape {
                Shape::Stacked => {
                    json!({ "fillOpacity": 30, "stacking": { "mode": "normal", "group": "A" } })
                }
                _ => json!({ "fillOpacity": 0 }),
            },
            json!({
                "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
        ),
    };
    let instant = kind != "timeseries";
    let target = |(number, target): (usize, &super::panels::Target)| {
        json!({
            "refId": char::from(b'A' + u8::try_from(number).unwrap()).to_string(),
            "datasource": source(),
            "expr": target.expr,
            "legendFormat": target.legend,
            "instant": instant,
            "range": !instant,
            "format": if kind == "table" { "table" } else { "time_series" },
        })
    };
    json!({
        "id": id,
        "type": kind,
        "title": panel.title,
        "description": panel.hint,
        "gridPos": place,
        "datasource": source(),
        "targets": panel.targets.iter().enumerate().map(target).collect::<Vec<_>>(),
        "fieldConfig": { "defaults": { "unit": panel.unit, "min": 0, "custom": custom }, "overrides": [] },
        "options": options,
    })
}

fn dashboard() -> Value {
    let mut shown_panels = Vec::new();
    let mut y = 0;
    for (question, panels) in ROWS {
        let id = shown_panels.len() + 1;
        let place = json!({ "x": 0, "y": y, "w": COLUMNS, "h": 1 });
        shown_panels.push(json!({
            "id": id, "type": "row", "title": question, "collapsed": false, "gridPos": place, "panels": [],
        }));
        y += 1;
        // Rows of at most three: six are two rows, four and five are two as well.
        for line in panels.chunks(if panels.len() == 4 { 2 } else { 3 }) {
            let width = COLUMNS / line.len();
            for (place, panel) in line.iter().enumerate() {
                let place = json!({ "x": place * width, "y": y, "w": width, "h": HEIGHT });
                shown_panels.push(shown(panel, shown_panels.len() + 1, &place));
            }
            y += HEIGHT;
        }
    }
    let variable = json!({
        "name": "job",
        "label": "Provider's workers",
        "type": "query",
        "datasource": source(),
        "definition": "label_values(usher_build_info, job)",
        "query": { "query": "label_values(usher_build_info, job)", "refId": "job" },
        "refresh": 2,
        "includeAll": true,
        "multi": true,
        "allValue": ".+",
        "current": { "text": "All", "value": "$__all" },
    });
    json!({
        "uid": "usher",
        "title": "usher",
        "tags": ["usher"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": { "from": "now-1h", "to": "now" },
        "timezone": "browser",
        "templating": { "list": [
            { "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus" },
            variable,
        ] },
        "annotations": { "list": [] },
        "panels": shown_panels,
    })
}

#[test]
fn the_dashboard_is_made_of_the_seven_questions() {
    let text = format!("{}\n", serde_json::to_string_pretty(&dashboard()).unwrap());
    if std::env::var_os("USHER_TEST_BLESS").is_some() {
        fs::write(path(), &text).unwrap();
    }
    let written = fs::read_to_string(path()).unwrap_or_default();
    assert!(
        written == text,
        "deploy/grafana/usher.json is not what tests/it/deploy/panels.rs says: run this test with USHER_TEST_BLESS=1"
    );
}

#[test]
fn no_panel_is_above_another_one_or_beside_the_grid() {
    let dashboard = dashboard();
    let mut taken = std::collections::BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= COLUMNS as u64, "{panel}");
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(taken.insert((x, y)), "{} lies above another one", panel["title"]);
            }
        }
    }
}
