"""Writes paths and rows: trees and lines for people, CSV, JSON Lines and Parquet for programs."""
